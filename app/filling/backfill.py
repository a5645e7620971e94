"""Extra wishes: spans that an operator requests beyond BACKFILL_DAYS, kept across restarts until they are withdrawn."""

from collections.abc import Callable, Sequence

from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.ports.store import StoreWriter


class Backfill:
    """Stores extra wishes and wakes the reconciler, which fulfils them."""

    def __init__(self, holdings: LedgerCache, store: Callable[[], StoreWriter], wake: Callable[[], None]) -> None:
        """`store` returns the store to write to; raises StoreUnavailable in a process that does not write."""
        self._holdings = holdings
        self._store = store
        self._wake = wake

    async def request(self, series: Sequence[Series], span: Span) -> None:
        """Add a wish for `span` to each of `series`. Raises StoreUnavailable when this process does not write."""
        store = self._store()
        await store.save_extra_wishes(dict.fromkeys(series, span))
        await self._reload(store)

    async def withdraw(self, series: Sequence[Series], span: Span) -> tuple[int, int]:
        """Withdraw `span` from the extra wishes of `series`; return how many changed, and how many still touch `span`.

        Klines that are held are not deleted. Raises StoreUnavailable when this process does not write.
        """
        store = self._store()
        before = {each: self._holdings.extra_wishes.get(each) for each in series}
        await store.withdraw_extra_wishes(dict.fromkeys(series, span))
        await self._reload(store)
        after = {each: self._holdings.extra_wishes.get(each) for each in series}
        changed = sum(before[each] != after[each] for each in series)
        return changed, sum(wish is not None and bool(wish.clip(span)) for wish in after.values())

    async def _reload(self, store: StoreWriter) -> None:
        found = await store.extra_wishes()
        self._holdings.extra_wishes.clear()
        self._holdings.extra_wishes.update(found)
        self._wake()
