"""One side of a book: what a frame changes is told exactly, by the canonical text of each price."""

from random import Random

import pytest

from app.collecting import book
from app.collecting.book import Side, UnknownDelete


def test_a_frame_returns_what_really_changed() -> None:
    side = Side(1)
    assert side.apply([("100.50", "2"), ("101", "3")], False) == [("100.5", "2"), ("101", "3")]
    assert side.apply([("100.5", "2"), ("101.0", "0.00"), ("99", "0")], False) == [("101", "0")]
    assert side.sorted() == (("100.5", "2"),)
    with pytest.raises(UnknownDelete):
        side.apply([("99", "0")], True)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_best_price_is_right_also_when_remembered_prices_are_forgotten(
    sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "_KEYS_MAX", 20)
    chance, side, truth = Random(1), Side(sign), dict[int, str]()
    for _ in range(3_000):
        price, amount = chance.randint(1, 60), str(chance.choice((0, 0, 1, 2)))
        side.apply([(f"{price}.{chance.choice(('0', '00'))}", amount)], False)
        truth[price] = amount
        if amount == "0":
            del truth[price]
        best = (min if sign > 0 else max)(truth, default=None)
        assert side.best() == (None if best is None else best * 10**book.DECIMALS)
        expected = sorted(truth.items(), key=lambda level: sign * level[0])
        assert side.sorted() == tuple((str(each), amount) for each, amount in expected)
