"""Subscriptions that deliver nothing: to names that are no streams, and to streams of symbols that are not listed.

The exchange acknowledges such a subscription and stays silent (binance-facts section 5.1), and so does the node. It
does not subscribe to them upstream, where they would use up sockets and the room of real streams.
"""

from collections.abc import Callable
from typing import Final

from app.binance.stream_name import StreamName, parse
from app.ports.streams import StreamsFull
from app.sockets.stream_client import Client
from app.sockets.stream_shares import Shares

NAMES_MAX: Final = 16_384  # of all clients together: 8 MB at most, as a name has at most 80 characters


class SilentNames:
    """The silent names of each client, and the clients that wait for the listing of a symbol."""

    def __init__(self, names_max: int = NAMES_MAX) -> None:
        self._names_max = names_max
        self._shares = Shares[Client]()
        self._waiting: dict[str, dict[Client, None]] = {}
        """By stream that would exist if its symbol were listed: the clients that wait for it."""

    @property
    def names(self) -> int:
        """How many names all clients have together."""
        return self._shares.names

    def add(self, client: Client, stream: str, name: StreamName | None) -> tuple[Client, str] | None:
        """Keep a name of `client`; `name` is None if it can never be a stream.

        Return the client and the name that were dropped to make room, or None. Raises StreamsFull.
        """
        gone = None
        if self.names >= self._names_max:
            giver = self._shares.giver_to(client)
            if giver is None:
                raise StreamsFull("so many streams of unlisted symbols are subscribed already")
            gone = giver, next(reversed(self._shares.of(giver)))
            self.discard(*gone)
        self._shares.add(client, stream)
        if name is not None:
            self._waiting.setdefault(stream, {})[client] = None
        return gone

    def discard(self, client: Client, stream: str) -> None:
        """Drop a name of `client`, if it is kept here."""
        self._shares.discard(client, stream)
        waiting = self._waiting.get(stream)
        if waiting is not None:
            waiting.pop(client, None)
            if not waiting:
                del self._waiting[stream]

    def wanted(self) -> str | None:
        """A symbol whose listing a client waits for; None when there is none."""
        name = parse(next(iter(self._waiting), ""))
        return name.listed[0] if name is not None else None

    def found(self, is_had: Callable[[StreamName], bool]) -> list[tuple[Client, str]]:
        """The clients and names for which `is_had` now says that the stream exists."""
        return [
            (client, stream)
            for stream, waiting in self._waiting.items()
            if (name := parse(stream)) is not None and is_had(name)
            for client in waiting
        ]
