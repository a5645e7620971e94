"""Unknown names: new listings are found within seconds, and invented names cost next to nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.binance.error_body import BinanceError, invalid_symbol, service_unavailable
from app.domain.reason import Reason
from app.querying.names import (
    COINS_MAX,
    LOOK_PAUSE_MS_MAX,
    LOOK_PAUSE_MS_MIN,
    NEW_COINS_PER_MINUTE,
    REFUSED_MAX,
    REFUSED_MS,
    Names,
)
from tests.fakes import Rig, listing, rig, unavailable

PATH = "/fapi/v1/depth"
COIN = "BTCUSD_PERP"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as here:
        await here.symbols.refresh()
        await here.advance(60)
        yield here


def names_of(made: Rig) -> Names:
    return Names(made.clock, made.symbols, lambda name: made.symbols.refresh())


async def test_a_symbol_that_was_listed_since_is_found_at_its_first_mention(made: Rig) -> None:
    names = names_of(made)
    made.exchange.symbols.append(listing("FRESHUSDT"))
    assert await names.learn("FRESHUSDT")
    assert "FRESHUSDT" in made.symbols.wished_set
    asked = made.exchange.info_requests
    assert await names.learn("FRESHUSDT")
    assert made.exchange.info_requests == asked


async def test_invented_names_cost_a_few_requests_a_minute_however_many_there_are(made: Rig) -> None:
    names = names_of(made)
    before = made.exchange.info_requests
    for second in range(60):
        for number in range(20):
            assert not await names.learn(f"NO{second}X{number}USDT")
        await made.advance(1)
    assert 3 <= made.exchange.info_requests - before <= 60_000 // LOOK_PAUSE_MS_MAX + 3
    made.exchange.symbols.append(listing("FRESHUSDT"))
    waited_s = 0
    while not await names.learn("FRESHUSDT"):
        await made.advance(1)
        waited_s += 1
    assert waited_s <= LOOK_PAUSE_MS_MAX / 1000, "a listing is found all the same"


async def test_after_a_quiet_while_and_after_a_find_names_are_looked_up_sooner_again(made: Rig) -> None:
    names = names_of(made)
    for _ in range(4):
        await names.learn("NOPEUSDT")
        await made.advance(LOOK_PAUSE_MS_MAX / 1000)
    made.exchange.symbols.append(listing("FRESHUSDT"))
    assert await names.learn("FRESHUSDT")
    await made.advance(LOOK_PAUSE_MS_MIN / 1000)
    asked = made.exchange.info_requests
    await names.learn("NOPEUSDT")
    assert made.exchange.info_requests == asked + 1


async def test_all_who_wait_for_the_list_share_one_request(made: Rig) -> None:
    names = names_of(made)
    before = made.exchange.info_requests
    made.exchange.symbols.append(listing("FRESHUSDT"))
    found = await asyncio.gather(*(names.learn("FRESHUSDT") for _ in range(50)))  # noqa: TID251  concurrent calls
    assert all(found)
    assert made.exchange.info_requests == before + 1


@pytest.mark.parametrize("name", ["", "A" * 33, "A B", "A/B", "../X", "A\nB"])
async def test_what_cannot_be_a_name_is_not_looked_for(made: Rig, name: str) -> None:
    before = made.exchange.info_requests
    assert not await names_of(made).learn(name)
    assert made.exchange.info_requests == before


async def test_an_exchange_that_does_not_answer_is_asked_no_more_often(made: Rig) -> None:
    names = names_of(made)
    made.exchange.error = unavailable()
    before = made.exchange.info_requests
    for _ in range(10):
        assert not await names.learn("FRESHUSDT")
    assert made.exchange.info_requests == before + 1


# --- coin-margined names ------------------------------------------------------------------------------------------


def ask(names: Names, name: str, *, error: BinanceError | None = None, path: str = PATH) -> int:
    """Ask for `name` as a route does; return the status of the answer."""
    try:
        with names.asking(path, name):
            if error is not None:
                raise error
    except BinanceError as refusal:
        return refusal.status
    return 200


async def test_coin_margined_names_that_the_exchange_has_are_asked_for_freely(made: Rig) -> None:
    names = names_of(made)
    assert {ask(names, COIN) for _ in range(3 * NEW_COINS_PER_MINUTE)} == {200}


async def test_invented_coin_margined_names_cost_so_many_requests_a_minute(made: Rig) -> None:
    names = names_of(made)
    assert ask(names, COIN) == 200
    statuses = [ask(names, f"NO{number}USD_PERP", error=invalid_symbol()) for number in range(100)]
    assert statuses == [400] * (NEW_COINS_PER_MINUTE - 1) + [503] * (101 - NEW_COINS_PER_MINUTE)
    assert ask(names, COIN) == 200, "known ones are asked for meanwhile"
    await made.advance(61)
    assert ask(names, "ETHUSD_PERP") == 200


async def test_a_refusal_holds_for_a_while_at_its_path(made: Rig) -> None:
    names = names_of(made)
    assert ask(names, "NOUSD", error=invalid_symbol()) == 400
    assert ask(names, "NOUSD") == 400, "the exchange is not asked again"
    assert ask(names, "NOUSD", path="/fapi/v1/assetIndex") == 200
    await made.advance(REFUSED_MS / 1000 + 1)
    assert ask(names, "NOUSD") == 200


async def test_other_errors_say_nothing_about_a_name_and_other_names_are_nobodys_business(made: Rig) -> None:
    names = names_of(made)
    assert ask(names, COIN, error=service_unavailable(5, Reason.EXCHANGE)) == 503
    assert ask(names, COIN) == 200
    for _ in range(2):
        assert ask(names, "BTCUSDT", error=invalid_symbol()) == 400
    assert ask(names, "BTCUSDT") == 200


async def test_what_is_remembered_of_names_is_bounded(made: Rig) -> None:
    names = names_of(made)
    for number in range(2 * REFUSED_MAX):
        names.note(PATH, f"A{number}USD_PERP", invalid_symbol())
        if number % NEW_COINS_PER_MINUTE == 0:
            await made.advance(61)
        ask(names, f"B{number}USD_PERP")
    assert len(names._refused) <= REFUSED_MAX
    assert len(names._coins) <= COINS_MAX
