"""Which symbols are followed: additions, removals, and a list that is missing or garbage."""

import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app.events import GarbageDropped, SymbolsSynced, SymbolsUnlisted
from app.holding.symbol_sync import DOCUMENT, RETRY_DELAY_S_MAX, Keep, Selection, SymbolSync
from app.ports.errors import StoreUnavailable, UpstreamGarbage, UpstreamUnavailable
from tests.fakes import NOW_MS, Rig, info_of, listing, nobody_keeps, rig, running, unavailable

AUTO = Selection(("BTCUSDT", "ETHUSDT"), ("USDT",), ("PERPETUAL",), auto=True)


def sync_of(
    made: Rig,
    changed: Callable[[Sequence[str]], None] = lambda removed: None,
    keep: Keep = nobody_keeps,
    selection: Selection = AUTO,
) -> SymbolSync:
    return SymbolSync(made.clock, made.observe, made.exchange, selection, keep, changed)


def kept_in(made: Rig) -> Keep:
    return lambda body, received_ms: made.store.save_document(DOCUMENT, body, received_ms)


def always_on(sync: SymbolSync) -> Callable[[], Coroutine[None, None, None]]:
    return lambda: sync.run(300, random.Random(2))


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as here:
        yield here


async def test_before_the_first_sync_the_fallback_is_followed(made: Rig) -> None:
    sync = sync_of(made)
    assert (sync.wished, sync.synced_ms, sync.exchange_info()) == (("BTCUSDT", "ETHUSDT"), None, None)


async def test_additions_and_removals_take_effect_and_are_told(made: Rig) -> None:
    removals: list[Sequence[str]] = []
    sync = sync_of(made, removals.append)
    assert await sync.refresh() == (("BTCUSDT", "ETHUSDT"), ())
    made.exchange.symbols = [listing("ETHUSDT"), listing("NEWUSDT")]
    assert await sync.refresh() == (("NEWUSDT",), ("BTCUSDT",))
    assert sync.wished_set == {"ETHUSDT", "NEWUSDT"}
    assert removals[-1] == ("BTCUSDT",)
    assert made.seen(SymbolsSynced)[-1] == SymbolsSynced(2, ("NEWUSDT",), ("BTCUSDT",))
    assert sync.listing("BTCUSDT") is None


async def test_what_the_settings_name_and_the_exchange_does_not_list_is_told_once(made: Rig) -> None:
    made.exchange.symbols = [listing("BTCUSDT")]
    sync = sync_of(made, selection=replace(AUTO, auto=False, fallback=("BTCUSDT", "BTCUSTD"), named=("ETHUSDT",)))
    for _ in range(2):
        await sync.refresh()
        assert (sync.wished, sync.unlisted) == (("BTCUSDT",), ("BTCUSTD", "ETHUSDT"))
    assert made.seen(SymbolsUnlisted) == [SymbolsUnlisted(("BTCUSTD", "ETHUSDT"))]
    made.exchange.symbols = [listing("BTCUSDT"), listing("ETHUSDT")]
    await sync.refresh()
    assert made.seen(SymbolsUnlisted)[-1].names == ("BTCUSTD",)


async def test_symbols_that_are_only_followed_until_the_first_sync_need_not_be_listed(made: Rig) -> None:
    made.exchange.symbols = [listing("BTCUSDT")]
    sync = sync_of(made)
    await sync.refresh()
    assert (sync.unlisted, made.seen(SymbolsUnlisted)) == ((), [])


async def test_only_trading_perpetuals_in_wished_quote_assets_are_followed(made: Rig) -> None:
    made.exchange.symbols = [
        listing("BTCUSDT"),
        listing("BTCUSDC", quote_asset="USDC"),
        listing("OLDUSDT", status="SETTLING"),
    ]
    sync = sync_of(made)
    await sync.refresh()
    assert sync.wished == ("BTCUSDT",)
    assert set(sync.listings) == {"BTCUSDT", "BTCUSDC", "OLDUSDT"}, "the others are known by name"
    both = sync_of(made, selection=replace(AUTO, quote_assets=("USDT", "USDC")))
    await both.refresh()
    assert both.wished == ("BTCUSDT", "BTCUSDC")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"symbols":[]}', info_of([listing("OLDUSDT", status="BREAK")])]
)
async def test_garbage_and_empty_lists_keep_the_symbols_followed(made: Rig, body: bytes) -> None:
    sync = sync_of(made)
    await sync.refresh()
    before = (sync.wished, sync.listings, sync.exchange_info(), sync.synced_ms)
    made.exchange.info = body
    with pytest.raises(UpstreamGarbage):
        await sync.refresh()
    assert (sync.wished, sync.listings, sync.exchange_info(), sync.synced_ms) == before
    assert [event.where for event in made.seen(GarbageDropped)] == ["exchangeInfo"]


async def test_the_list_is_kept_and_restored_after_a_restart(made: Rig) -> None:
    made.exchange.symbols.append(listing("NEWUSDT"))
    sync = sync_of(made, keep=kept_in(made))
    await sync.refresh()
    again = sync_of(made)
    assert await again.load(made.store)
    assert (again.wished, again.synced_ms) == (sync.wished, NOW_MS)
    assert again.exchange_info() == info_of(made.exchange.symbols)
    assert not await again.load(made.store), "it is no newer"


async def test_a_stored_list_in_which_nothing_is_wished_any_more_does_not_keep_the_node_from_starting(
    made: Rig,
) -> None:
    """QUOTE_ASSETS was changed between two runs."""
    await made.store.save_document(DOCUMENT, info_of(made.exchange.symbols), NOW_MS - 5)
    sync = sync_of(made, selection=replace(AUTO, quote_assets=("USDC",)))
    assert not await sync.load(made.store)
    assert sync.wished == ("BTCUSDT", "ETHUSDT")
    assert "QUOTE_ASSETS" in str(sync.last_error)


async def test_a_follower_takes_over_newer_lists(made: Rig) -> None:
    writer, follower = sync_of(made, keep=kept_in(made)), sync_of(made)
    await writer.refresh()
    assert await follower.load(made.store)
    assert follower.synced_ms == writer.synced_ms
    made.clock.ms += 1
    made.exchange.symbols.append(listing("NEWUSDT"))
    await writer.refresh()
    assert await follower.load(made.store)
    assert "NEWUSDT" in follower.wished_set
    assert made.exchange.info_requests == 2, "only the writer asks"


async def test_without_auto_sync_the_configured_symbols_are_followed_as_far_as_they_are_listed(made: Rig) -> None:
    sync = sync_of(made, selection=replace(AUTO, auto=False, fallback=("ETHUSDT", "NOSUCHUSDT")))
    await sync.refresh()
    assert sync.wished == ("ETHUSDT",)


async def test_a_symbol_whose_delivery_is_announced_is_followed_until_its_last_minute_has_closed(made: Rig) -> None:
    delivery_ms = NOW_MS + 150_000
    made.exchange.symbols.append(replace(listing("LEAVEUSDT"), delivery_ms=delivery_ms))
    sync = sync_of(made)
    async with running(always_on(sync)):
        await made.advance(1)
        assert "LEAVEUSDT" in sync.wished_set
        made.exchange.symbols[-1] = replace(made.exchange.symbols[-1], status="SETTLING")
        await made.advance(149)
        assert "LEAVEUSDT" in sync.wished_set, "the minute of the delivery trades"
        await made.advance(125)
        assert "LEAVEUSDT" not in sync.wished_set, "the list is read when that minute has closed, not 300 s later"
        assert sync.settled == {"LEAVEUSDT"}


async def test_failures_are_retried_with_jitter_and_the_schedule_goes_on(made: Rig) -> None:
    sync = sync_of(made)
    made.exchange.error = unavailable()
    async with running(always_on(sync)):
        await made.advance(600)
        failures = made.exchange.info_requests
        assert 10 < failures < 100
        delays = made.clock.slept_s
        assert all(1 <= delay <= RETRY_DELAY_S_MAX + 1 for delay in delays)
        assert len(set(delays)) == len(delays)
        assert sync.last_error == "down, says the test"
        made.exchange.error = None
        await made.advance(62)
        assert sync.synced_ms is not None
        asked = made.exchange.info_requests
        await made.advance(3300)
        assert 9 <= made.exchange.info_requests - asked <= 13


async def test_a_list_that_cannot_be_kept_is_used_all_the_same(made: Rig) -> None:
    async def full(body: bytes, received_ms: int) -> None:
        raise StoreUnavailable("disk full")

    sync = sync_of(made, keep=full)
    async with running(always_on(sync)) as tasks:
        await made.advance(30)
        assert not tasks[0].done()
        assert (sync.last_error, sync.wished) == ("disk full", ("BTCUSDT", "ETHUSDT"))
        assert sync.synced_ms is not None


async def test_a_refresh_on_request_says_why_it_failed(made: Rig) -> None:
    made.exchange.error = unavailable()
    with pytest.raises(UpstreamUnavailable):
        await sync_of(made).refresh()
