"""The follower's role: how a process that does not write keeps up with the one that does."""

import contextlib
from typing import Final

from app.domain.interval import MINUTE_MS
from app.domain.validity import is_fresh
from app.holding.follow import Follower
from app.node.parts import Parts
from app.ports.errors import StoreUnavailable
from infra.local.stream_fanout import StreamFanoutClient

RELOAD_EVERY_S: Final = 5.0  # how often symbols, checks and stand-downs are read, of which the journal says nothing
LEDGER_AGE_MS_MAX: Final = 15_000  # a ledger that could not be read for longer says nothing about now


class Following:
    """Knows what the writer has committed (klines, ledger, symbols, checks, stand-downs) and hears its streams."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._newest_ms = 0
        self._is_running = False
        self.follower = Follower(parts.clock, parts.reader, parts.holdings, parts.tail, parts.drop, self._load_anew)
        self.follower.closed = self._learn_time
        self.follower.looked = self._put_off
        self.relay = StreamFanoutClient(parts.shared, parts.clock, parts.hub.deliver)

    async def start(self) -> None:
        """Follow from now on, of which the first look is done at the return; nothing happens when we do already.

        Whoever asked before that look would be told that nothing is known: a worker begins to answer after it.
        """
        if self._is_running:
            return
        self._is_running = True
        self._newest_ms = self._parts.pages.true_until_ms = 0
        await self.follower.try_to_look()
        self._parts.supervisor.start("follow", self.follower.run)
        self._parts.supervisor.start("reload", self._reload)
        self._parts.supervisor.start("stream-relay", self.relay.run)
        self._parts.hub.take_from(self.relay)

    async def stop(self) -> None:
        """Follow no more."""
        self._is_running = False
        if self._parts.role is None:
            self._parts.hub.take_from(None)
        await self._parts.supervisor.stop("follow", "reload", "stream-relay")
        self.follower.forget()
        self.relay.forget()

    async def hand_over(self) -> bool:
        """Follow no more, because this process writes from now on; whether the tails are those of what is stored now.

        Nobody else may write any more when it is called. A process that was warm stays so when its writer dies.
        """
        was_running = self._is_running
        await self._parts.supervisor.stop("follow")
        is_current = False
        if was_running:
            with contextlib.suppress(StoreUnavailable):
                await self.follower.look()
                is_current = True
        await self.stop()
        return is_current

    def ledger_as_of_ms(self) -> int:
        """The moment that the ledger in memory speaks of: the last look at the store, if that is not long ago."""
        now_ms, looked_ms = self._parts.clock.now_ms(), self.follower.looked_ms
        return looked_ms if is_fresh(looked_ms, now_ms, LEDGER_AGE_MS_MAX) else now_ms

    def _put_off(self, until_ms: int) -> None:
        self._parts.pages.true_until_ms = until_ms

    async def _load_anew(self) -> None:
        parts = self._parts
        parts.forget_copies()
        await parts.load_for_reading()
        self._newest_ms = max((ledger.end_ms for ledger in parts.holdings.all().values()), default=0)
        parts.close_lag.follow(parts.symbols.wished)

    async def _reload(self) -> None:
        parts = self._parts
        while True:
            await parts.clock.sleep(RELOAD_EVERY_S)
            with contextlib.suppress(StoreUnavailable):  # there may be no database yet; reads say so themselves
                if await parts.symbols.load(parts.reader):
                    parts.close_lag.follow(parts.symbols.wished)
                parts.holdings.load_wishes(await parts.reader.anchors(), await parts.reader.extra_wishes())
                await parts.load_checks()
                if (stand_down := await parts.reader.stand_down()) is not None:
                    parts.budget.restore(*stand_down)

    def _learn_time(self, end_ms: int) -> None:
        """A writer that hears the exchange commits klines as they close: seeing that confirms our clock."""
        clock = self._parts.clock
        if 0 < self._newest_ms < end_ms and is_fresh(end_ms, clock.now_ms(), MINUTE_MS):
            clock.confirm()
        self._newest_ms = max(self._newest_ms, end_ms)
