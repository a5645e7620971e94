from email.utils import formatdate

import pytest

from app.binance.rate_state import CALM_MS
from app.domain.interval import HOUR_MS, MINUTE_MS
from app.events import StandDownBegan
from app.ports.errors import StandDown, StoreUnavailable
from infra.binance.stand_down import BANNED_MS_MAX, MARGIN_MS, REFUSED_MS, StandDownGuard
from tests.clocks import VirtualClock
from tests.coordination.fake_rate_state import FakeRateState
from tests.net.loopback import Witness

BAN = "Way too many requests; IP(1.2.3.4) banned until {}. Please use the websocket for live updates to avoid bans."


class Shelf:
    """Keeps what is saved; broken for as many times as told."""

    def __init__(self, failures: int = 0) -> None:
        self.saved: list[tuple[int, str]] = []
        self.failures = failures

    async def __call__(self, until_ms: int, reason: str) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("disk full")
        self.saved.append((until_ms, reason))


class Case:
    def __init__(self, shelf: Shelf | None = None) -> None:
        self.clock = VirtualClock()
        self.witness = Witness()
        self.shelf = shelf or Shelf()
        self.keeper = FakeRateState()
        self.guard = StandDownGuard(self.clock, self.witness, self.shelf, self.keeper)

    async def stands_s(self, status: int, retry_after: str | None = None, msg: str = "") -> float:
        """Seconds that an answer to a request sent just now makes us stay away."""
        until_ms = (await self.guard.announce(status, retry_after, msg, self.clock.now_ms())).until_ms
        return (until_ms - self.clock.now_ms()) / 1_000

    async def succeeds(self) -> None:
        await self.keeper.update(lambda state: state.calmed(self.clock.now_ms()))

    def wait_out(self, extra_ms: int = 0) -> None:
        active = self.guard.active()
        assert active is not None
        self.clock.time_ms = active.until_ms + extra_ms


async def test_what_the_exchange_announces_is_honoured_to_the_second() -> None:
    assert await Case().stands_s(429, "120") == 120
    assert await Case().stands_s(418, str(7 * 3_600)) == 7 * 3_600
    case = Case()
    assert await case.stands_s(418, None, BAN.format(case.clock.now_ms() + 9 * HOUR_MS)) == 9 * 3_600
    case = Case()
    assert await case.stands_s(418, "60", BAN.format(case.clock.now_ms() + HOUR_MS)) == 3_600, "the later one counts"
    case = Case()
    assert await case.stands_s(429, formatdate(case.clock.now_ms() / 1_000 + 90, usegmt=True)) == 90
    case = Case()
    assert await case.stands_s(418, str(30 * 24 * 3_600)) == 30 * 24 * 3_600, "never capped"


@pytest.mark.parametrize("retry_after", ["", "soon", "-5", "1e9", "²", "9" * 400, "Mon, 99 Foo 2026", "0"])
async def test_an_unusable_announcement_still_makes_us_stay_away(retry_after: str) -> None:
    assert await Case().stands_s(429, retry_after) >= MARGIN_MS / 1_000


async def test_without_an_announcement_the_time_grows_up_to_the_longest_ban() -> None:
    case = Case()
    spans: list[float] = []
    for _ in range(14):
        spans.append(await case.stands_s(418))
        case.wait_out(1)
    assert spans[:3] == [120, 240, 480]
    assert spans[-1] == BANNED_MS_MAX / 1_000
    case = Case()
    assert await case.stands_s(429) == (MINUTE_MS + MARGIN_MS) / 1_000, "the rest of the minute and a bit"
    case.wait_out(1)
    assert await case.stands_s(429) == 120


async def test_a_calm_minute_after_a_stand_down_makes_escalation_start_anew() -> None:
    case = Case()
    assert await case.stands_s(418) == 120
    case.wait_out(CALM_MS - 1)
    await case.succeeds()
    assert await case.stands_s(418) == 240
    case.wait_out(CALM_MS)
    await case.succeeds()
    assert await case.stands_s(418) == 120


@pytest.mark.parametrize(("status", "advice"), [(403, "WEIGHT_PER_MINUTE"), (451, "HTTPS_PROXY")])
async def test_refusals_say_what_to_do(status: int, advice: str) -> None:
    case = Case()
    assert await case.stands_s(status, None, "<html>") == REFUSED_MS / 1_000
    (event,) = case.witness.of(StandDownBegan)
    assert advice in event.reason


async def test_answers_to_one_burst_make_one_stand_down() -> None:
    case = Case()
    sent_ms = case.clock.now_ms()
    ends = set()
    for travel_ms in range(0, 3_000, 300):
        case.clock.time_ms = sent_ms + travel_ms
        ends.add((await case.guard.announce(429, None, "", sent_ms)).until_ms)
    assert len(ends) == 1
    assert len(case.witness.of(StandDownBegan)) == 1
    case.wait_out(5)
    assert (await case.guard.announce(429, None, "", sent_ms)).until_ms < case.clock.now_ms(), (
        "not even when it is over"
    )


async def test_a_ban_announced_during_a_stand_down_lengthens_it() -> None:
    case = Case()
    sent_ms = case.clock.now_ms()
    await case.guard.announce(429, "30", "", sent_ms)
    until_ms = (await case.guard.announce(418, None, BAN.format(sent_ms + HOUR_MS), sent_ms)).until_ms
    assert until_ms == sent_ms + HOUR_MS
    assert (await case.guard.announce(429, "30", "", sent_ms)).until_ms == until_ms, "and nothing shortens it"
    assert len(case.witness.of(StandDownBegan)) == 2


async def test_it_is_saved_once_and_a_restart_remembers() -> None:
    case = Case()
    await case.guard.announce(418, "3600", "", case.clock.now_ms())
    await case.guard.persist()
    await case.guard.persist()
    ((until_ms, reason),) = case.shelf.saved
    again = Case()
    await again.guard.restore(until_ms, reason)
    active = again.guard.active()
    assert isinstance(active, StandDown)
    assert active.until_ms == until_ms
    await again.guard.restore(until_ms - 5, "an older one")
    assert again.guard.active() is not None
    again.wait_out()
    assert again.guard.active() is None
    assert await again.stands_s(418) == 240, "escalation goes on where it was"


async def test_a_store_that_is_down_is_tried_again_and_the_stand_down_holds_meanwhile() -> None:
    case = Case(Shelf(failures=1))
    await case.guard.announce(418, "3600", "", case.clock.now_ms())
    await case.guard.persist()
    assert case.shelf.saved == []
    assert case.guard.active() is not None
    await case.guard.persist()
    assert len(case.shelf.saved) == 1
