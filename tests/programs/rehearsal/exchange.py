"""The exchange of a rehearsal as a process: the sandbox's klines and weight, and a burst of frames at each close.

Between closes its streams are the sandbox's: a frame for each 250 ms in which a symbol trades. For BURST_MS after a
close every such frame is sent `burst` times. Closing frames are sent once, before the other frames of a tick, and the
time of sending is recorded: the node's close lag counts from it.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from infra.process.clock import SystemClock
from infra.sandbox.candles import QUANTUM_MS, Candle
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard, Target
from infra.sandbox.feeds import FeedHub, SymbolFeeds
from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.publishing import Outlet
from infra.sandbox.server import create_app
from infra.sandbox.universe import Instrument
from tests.programs.soak.flood import serve

BURST_MS: Final = 2_000  # after a close; by then all closing frames have been sent (infra/sandbox/feeds.py)


class MovedClock(SystemClock):
    """The machine's clock, moved forward so that a rehearsal need not wait for the end of a minute."""

    def __init__(self, shift_ms: int) -> None:
        self._shift_ms = shift_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._shift_ms


class BurstHub(FeedHub):
    """The sandbox's feeds with bursts at the closes. Live frames are sent only while `is_live`."""

    def __init__(self, exchange: Exchange, faults: FaultBoard, burst: int, journal: TextIO) -> None:
        super().__init__(exchange, faults)
        self._clock = exchange.clock
        self._burst = burst
        self._journal = journal
        self._copies = 1
        self._tick_ms: int | None = None
        self._closed: list[tuple[str, int]] = []
        self._is_second_pass = False
        self.is_live = False

    def tick(self, now_ms: int) -> None:
        """Send the frames due at `now_ms` and record them: closing frames at once, the others after they were written.

        Frames are written in the event loop's next turn; a tick with a burst takes a tenth of a second.
        """
        late_ms = 0 if self._tick_ms is None else max(0, now_ms - self._tick_ms - QUANTUM_MS)
        self._tick_ms = now_ms
        before = self.frames_sent
        super().tick(now_ms)
        sent_ms = self._clock.now_ms()
        for symbol, minute_ms in self._closed:
            self._journal.write(f"closed {symbol} {minute_ms} {sent_ms}\n")
        self._closed.clear()
        if self.is_live:
            asyncio.get_running_loop().call_soon(self._send_others, now_ms, late_ms, self.frames_sent - before)
        self._journal.flush()

    def _send_others(self, now_ms: int, late_ms: int, frames: int) -> None:
        before = self.frames_sent
        self._is_second_pass = True
        super().tick(now_ms)
        self._is_second_pass = False
        frames += self.frames_sent - before
        self._journal.write(f"tick {now_ms} {late_ms} {frames} {self._listeners()}\n")

    def _listeners(self) -> int:
        """The most subscribers of one stream: one, unless two processes believe that they are the writer."""
        feeds = (feed for symbol in self._symbols.values() for feed in symbol.feeds.values())
        return max((len(feed.subscribers) for feed in feeds), default=0)

    def _send_closed(self, feeds: SymbolFeeds, item: Instrument, minute_ms: int, now_ms: int, *, faulty: bool) -> None:
        super()._send_closed(feeds, item, minute_ms, now_ms, faulty=faulty)
        self._closed.append((item.symbol, minute_ms))

    def _send_live(self, feeds: SymbolFeeds, item: Instrument, minute: Candle, now_ms: int, *, faulty: bool) -> None:
        if not self._is_second_pass:
            feeds.trades_sent = -1  # the first pass sends no live frames
            return
        self._copies = self._burst if now_ms % MINUTE_MS < BURST_MS else 1
        super()._send_live(feeds, item, minute, now_ms, faulty=faulty)
        self._copies = 1

    def send(self, outlet: Outlet, target: Target, event: str, now_ms: int, *, faulty: bool) -> None:
        """Send `event` to all subscribers, `_copies` times."""
        for _ in range(self._copies):
            super().send(outlet, target, event, now_ms, faulty=faulty)


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM. SIGUSR1 starts live frames, SIGUSR2 stops them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--burst", type=int, required=True)
    parser.add_argument("--shift-ms", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    wish = parser.parse_args(arguments)
    app = create_app(MovedClock(wish.shift_ms), symbols=wish.symbols)
    with wish.journal.open("w") as journal:
        hub = app.sockets.hub = BurstHub(app.exchange, app.faults, wish.burst, journal)

        def let_flow(number: int, _frame: object) -> None:
            hub.is_live = number == signal.SIGUSR1

        signal.signal(signal.SIGUSR1, let_flow)
        signal.signal(signal.SIGUSR2, let_flow)
        serve(app, wish.port)


if __name__ == "__main__":
    main(sys.argv[1:])
