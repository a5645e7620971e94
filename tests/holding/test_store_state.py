"""A failure of the database is reported once, not at each attempt, and so is its end."""

from app.events import Event, StoreFailed, StoreRecovered
from app.holding.store_state import StoreState


def test_trouble_is_told_when_it_begins_changes_and_ends() -> None:
    seen: list[Event] = []
    told: list[str | None] = []
    state = StoreState(seen.append, lambda: told.append(state.error))
    for reason in (None, "full", "full", "full", "read-only", None, None, "full"):
        state.report(reason)
    assert seen == [StoreFailed("full"), StoreFailed("read-only"), StoreRecovered(), StoreFailed("full")]
    assert told == ["full", "read-only", None, "full"]
