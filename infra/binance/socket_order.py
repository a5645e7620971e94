"""The order in which the frames of one read are processed: closing frames first, and of live klines the newest state.

After a stall, or in a burst, one read brings hundreds of frames. Readers wait for the closed klines among them; a state
of a live kline that another one of the same read replaces is of no use.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

_BEGIN: Final = b'{"stream":"'
_LIVE: Final = b'"x":false'  # the flag of a kline in progress (binance-facts section 5.4)


class Ordered(NamedTuple):
    """Frames in the order in which to process them, and the number of those left out."""

    frames: list[bytes]
    superseded: int


def urgent_first(frames: list[bytes], tapped: Collection[bytes]) -> Ordered:
    """`frames` as received by one read, without live klines that a later frame of the same stream supersedes.

    Live klines come after all other frames. The frames of streams in `tapped` (their names, encoded) are all kept, in
    their order, as those in a form that the exchange does not send.
    """
    if len(frames) == 1:
        return Ordered(frames, 0)
    first: list[bytes] = []
    live: dict[bytes, bytes] = {}
    begin = len(_BEGIN)
    for frame in frames:
        if _LIVE in frame and frame.startswith(_BEGIN):
            name = frame[begin : frame.find(b'"', begin)]
            if name not in tapped:
                live[name] = frame
                continue
        first.append(frame)
    first += live.values()
    return Ordered(first, len(frames) - len(first))
