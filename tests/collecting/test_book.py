"""A held book equals a plain one, its changes are exact, and prices compare as numbers."""

from random import Random

import pytest

from app.collecting.book import Book, Side, UnknownDelete, ticks_of
from app.domain.exact import canonical
from app.domain.records import Level
from tests.collecting.made import levels


def texts(side: Side) -> list[str]:
    return [":".join(level) for level in side.sorted()]


def test_prices_are_numbers_whatever_their_text() -> None:
    side = Side(1)
    assert side.apply(levels("10.10:1 9.9:2 10.1:3 100:4 9.90:0.000"), False) == levels(
        "10.1:1 9.9:2 10.1:3 100:4 9.9:0"
    )
    assert texts(side) == ["10.1:3", "100:4"]
    assert canonical("100") == "100"
    assert canonical("0.000") == "0"
    assert ticks_of("0.000000000000000001") == 1


@pytest.mark.parametrize("price", ["", "1e5", "-1", ".", "1.0000000000000000001", "NaN", "1_0"])
def test_a_price_that_is_no_plain_decimal_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="price"):
        ticks_of(price)


@pytest.mark.parametrize("sign", [-1, 1])
def test_it_equals_a_plain_book_through_random_changes(sign: int) -> None:
    chance = Random(sign)
    side, plain, reader = Side(sign), dict[int, str](), dict[str, str]()
    for _ in range(3_000):
        price, amount = chance.randrange(1, 300), chance.choice(("0", "0.00", "1", "2.5"))
        for changed, left in side.apply([Level(f"{price // 10}.{price % 10}0", amount)], False):
            assert reader.get(changed, "0") != left, "what does not change is no change"
            reader[changed] = left
        if amount.strip("0."):
            plain[price] = amount
        else:
            plain.pop(price, None)
        best = (max if sign < 0 else min)(plain, default=None)
        assert side.best() == (None if best is None else ticks_of(f"{best // 10}.{best % 10}"))
    expected = [f"{canonical(f'{p // 10}.{p % 10}')}:{plain[p]}" for p in sorted(plain, reverse=sign < 0)]
    assert texts(side) == expected
    assert {price: amount for price, amount in reader.items() if amount != "0"} == dict(side.sorted())


def test_beyond_a_full_snapshot_nothing_is_held() -> None:
    book = Book()
    book.bids.replace(levels("10:1 9:1 8:1"), 3)
    book.asks.replace(levels("11:1 12:1"), 3)
    assert book.bids.apply(levels("7:1 8.5:2 8:3"), False) == levels("8.5:2 8:3")
    assert book.asks.apply(levels("900:1"), False) == levels("900:1"), "this side came whole"
    assert book.levels_min() == 4


def test_the_difference_makes_one_side_the_other() -> None:
    old, new = Side(-1), Side(-1)
    old.replace(levels("10:1 9:1 8:1"), None)
    new.replace(levels("10.0:1 9:2 7:1"), None)
    changes = old.difference(new)
    assert sorted(changes) == levels("7:1 8:0 9:2")
    old.apply(changes, True)
    assert texts(old) == texts(new)


def test_a_delete_of_what_is_not_there_breaks_only_where_the_exchange_forbids_it() -> None:
    side = Side(1)
    assert side.apply(levels("5:0"), False) == []
    with pytest.raises(UnknownDelete):
        side.apply(levels("5:0"), True)


def test_a_best_bid_that_reaches_the_best_ask_is_a_crossed_book() -> None:
    book = Book()
    book.bids.replace(levels("9:1"), None)
    book.asks.replace(levels("10:1"), None)
    assert not book.is_crossed()
    book.bids.apply(levels("10.00:1"), False)
    assert book.is_crossed()
    book.bids.apply(levels("10:0"), False)
    assert not book.is_crossed()
