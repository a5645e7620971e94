"""A sandbox exchange in a process of its own whose kline streams carry many times the real market's frames.

Apart from the number of frames it is the sandbox: REST agrees with the sockets, and each closing frame is sent once and
on time. A live frame is encoded once every 250 ms and sent as often as the rate requires: the node's work with equal
frames is the same as with different ones.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Final

import uvicorn

from infra.process.clock import SystemClock
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard
from infra.sandbox.feeds import FeedHub, SymbolFeeds
from infra.sandbox.render import rest_row, stream_event
from infra.sandbox.server import HOST, SandboxApp, create_app

MARKET_FRAMES_A_SECOND: Final = 1.4
"""Mean number of frames a second of one 1m stream over all symbols.

Recorded daily trade counts (../shared/realdata, 480 traded symbols of June 2025) and one frame for each 250 ms with a
trade (binance-facts section 5.4) give 4·(1 − exp(−trades in 250 ms)), 1.40 on average. That is too many rather than too
few, because real trades come in bursts. The recorded socket capture (four symbols, July 2021) has 67 frames in 28.9 s:
0.58. For 600 symbols, 1.4 means 840 frames a second; the maximum possible is 2,400.
"""

LATE_MS_MAX: Final = 1_000  # made up for after a late tick; more frames at once would cut the node as a slow reader
SHARE_MAX: Final = 4.0  # times a symbol's own frames: it also sends for those without trades, most right after a close
WEIGHT_LIMIT: Final = 100_000  # a soak is about frames; its cold start must not wait for weight


class FloodHub(FeedHub):
    """Feeds that send each state of a live kline `rate` times as often as the market would, spread evenly.

    To keep the rate, a tick makes up for what a late one did not send, and symbols with trades send the frames of
    symbols without.
    """

    def __init__(self, exchange: Exchange, faults: FaultBoard, rate: float) -> None:
        super().__init__(exchange, faults)
        self._market = exchange.market
        self._frames_a_ms = MARKET_FRAMES_A_SECOND * rate / 1000
        self._due: dict[str, float] = {}
        self._ticked_ms = self._elapsed_ms = 0
        self._idle = self._busy = 0
        self._share = 1.0
        self._is_open = False

    def open(self) -> None:
        """Start the flood; before this call live klines do not change and only closing frames are sent."""
        self._is_open = True

    def tick(self, now_ms: int) -> None:
        """Send the frames that are due at `now_ms`."""
        self._elapsed_ms = min(now_ms - self._ticked_ms, LATE_MS_MAX)
        self._ticked_ms = now_ms
        self._share = 1 + self._idle / self._busy if self._busy else 1.0
        self._idle = self._busy = 0
        super().tick(now_ms)

    def _advance(self, feeds: SymbolFeeds, now_ms: int, *, faulty: bool) -> None:
        minute_ms = now_ms // 60_000 * 60_000
        if feeds.minute_ms != minute_ms:
            self._turn_minute(feeds, minute_ms, now_ms)
        item = feeds.item
        while item is not None and feeds.closing and feeds.closing[0].due_ms <= now_ms:
            self._send_closed(feeds, item, feeds.closing.popleft().minute_ms, now_ms, faulty=faulty)
        if not self._is_open:
            return
        minute = None
        if feeds.walk is not None and item is not None and not feeds.closing:
            minute = feeds.walk.candle_at(minute_ms, (now_ms - minute_ms) // QUANTUM_MS)
        if minute is None or item is None:
            self._idle += 1
            return
        self._busy += 1
        due = self._due.get(feeds.symbol, 0.0) + self._frames_a_ms * self._elapsed_ms * min(self._share, SHARE_MAX)
        self._due[feeds.symbol] = due - int(due)
        for feed in feeds.feeds.values():
            row = rest_row(item, minute, minute_ms + 59_999)
            event = stream_event(item, feed.interval, row, now_ms, closed=False)
            for subscriber in tuple(feed.subscribers):
                self.frames_sent += int(due)
                for _ in range(int(due)):
                    subscriber.deliver(feed.name, event)


def serve(app: SandboxApp, port: int) -> None:
    """Serve a sandbox exchange on `port` until SIGTERM."""
    uvicorn.run(
        app,
        host=HOST,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="on",
        log_level="warning",
        access_log=False,
        date_header=False,
    )


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and serve until SIGTERM; SIGUSR1 starts the flood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    wish = parser.parse_args(arguments)
    app = create_app(SystemClock(), symbols=wish.symbols, weight_limit=WEIGHT_LIMIT)
    hub = app.sockets.hub = FloodHub(app.exchange, app.faults, wish.rate)
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: hub.open())
    serve(app, wish.port)


if __name__ == "__main__":
    main(sys.argv[1:])
