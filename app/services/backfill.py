"""Extra wishes: spans that an operator asks for beyond BACKFILL_DAYS, kept across restarts."""

from collections.abc import Callable, Sequence

from app.domain.span import Span
from app.ports import Series, StoreUnavailable, StoreWriter
from app.services.holdings import Holdings


class Backfill:
    """Takes extra wishes and wakes whoever fulfils them."""

    def __init__(self, holdings: Holdings, wake: Callable[[], None]) -> None:
        self._holdings = holdings
        self._wake = wake
        self.store: StoreWriter | None = None

    async def request(self, series: Sequence[Series], span: Span) -> None:
        """Wish for `span` of each of `series`. Raises StoreUnavailable when this process does not write."""
        if self.store is None:
            raise StoreUnavailable("this process does not hold the writer lease; ask the one that does")
        await self.store.save_extra_wishes(dict.fromkeys(series, span))
        self._holdings.extra_wishes.update(await self.store.extra_wishes())
        self._wake()
