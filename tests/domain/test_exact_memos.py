"""Numbers that are remembered: what was refused once is refused again, and memory is bounded."""

import pytest

from app.domain import exact
from app.domain.unreadable import Unreadable


def test_seen_texts_are_checked_all_the_same() -> None:
    seen = exact.Seen()
    for _ in range(2):
        seen.check([("1.50", "0"), ("2", "0.25")])
        for bad in ("", "1e5", "-1", "1,5", "01", "1 2", "NaN"):
            with pytest.raises(Unreadable):
                seen.check([("1.50", "0"), ("2", bad)])


def test_more_texts_than_are_remembered_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "REMEMBERED_MAX", 10)
    seen, quotients = exact.Seen(), exact.Quotients(4)
    for number in range(50):
        seen.check([(str(each), "1.0") for each in range(number)])
        assert quotients[str(number), "3"] == exact.quotient(str(number), "3", 4)
        assert len(quotients) <= 10
    with pytest.raises(Unreadable):
        seen.check([(str(each), "x") for each in range(20)])
    with pytest.raises(Unreadable):
        quotients["1", "0"]


@pytest.mark.parametrize(("text", "expected"), [("1.50", "1.5"), ("100", "100"), ("2.000", "2"), ("0.0", "0")])
def test_canonical_texts_of_one_value_are_the_same(text: str, expected: str) -> None:
    assert exact.canonical(text) == expected
