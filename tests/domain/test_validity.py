import pytest

from app.domain.validity import is_fresh, is_valid


@pytest.mark.parametrize(
    ("since_ms", "fresh"), [(None, False), (900, False), (901, True), (1_000, True), (1_001, False)]
)
def test_what_was_learnt_lately_counts_and_nothing_from_the_future(since_ms: int | None, fresh: bool) -> None:
    """Otherwise, after a clock was put back, a future time would stay fresh for as long as the clock was wrong."""
    assert is_fresh(since_ms, 1_000, 100) is fresh


@pytest.mark.parametrize(("now_ms", "valid"), [(99, False), (100, True), (199, True), (200, False)])
def test_what_was_made_counts_until_its_end(now_ms: int, valid: bool) -> None:
    assert is_valid(100, now_ms, 200) is valid
