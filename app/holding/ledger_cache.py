"""The ledgers of all series in memory, with the anchors of the 3d grids and the results of verification."""

from collections import Counter
from collections.abc import Iterable, Mapping

from app.domain.interval import INTERVALS, Grid, Interval
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.verification import Verification
from app.ports.store import Disagreement

_EMPTY = Ledger()
_UNVERIFIED = Verification()


class LedgerCache:
    """A copy of the store's ledgers, changed only after a commit succeeded."""

    def __init__(self) -> None:
        self._ledgers: dict[Series, Ledger] = {}
        self._anchors: dict[str, int] = {}
        self._names: set[str] = set()
        self._verifications: dict[Series, Verification] = {}
        self._disagreements: dict[Series, dict[tuple[int, Interval], Disagreement]] = {}
        self.revisions: Counter[Series] = Counter()
        """Per series: how many rows were ever replaced."""
        self.extra_wishes: dict[Series, Span] = {}
        self.listings: dict[str, Listing] = {}
        """Per symbol: the listing that owns the held rows."""
        self.since_ms: dict[str, int] = {}
        """Per name that belonged to another listing before: when the current listing's first minute opens."""
        self.doubted: frozenset[str] = frozenset()
        """Names under doubt: it is not known which listing's klines are held under them."""

    def load(
        self, ledgers: Mapping[Series, Ledger], anchors: Mapping[str, int], extra_wishes: Mapping[Series, Span]
    ) -> None:
        """Load ledgers, anchors and extra wishes from the store, replacing the ones in memory."""
        self._ledgers = dict(ledgers)
        self._anchors = dict(anchors)
        self._names = {series.name for series in ledgers}
        self.extra_wishes = dict(extra_wishes)

    def set_listings(self, listings: Iterable[Listing]) -> None:
        """Set the listings that own the held klines; `since_ms` and `doubted` follow from them."""
        self.listings = {each.symbol: each for each in listings}
        known = self.listings.values()
        self.since_ms = {each.symbol: each.since_ms for each in known if each.since_ms}
        self.doubted = frozenset(each.symbol for each in known if each.is_doubted)

    def relisted(self, listing: Listing, ledgers: Mapping[Series, Ledger], names: Iterable[str]) -> None:
        """Apply a relisting: replace the symbol's ledgers, and drop the anchors of `names` and the series' checks."""
        self._ledgers.update(ledgers)
        for name in names:
            self._anchors.pop(name, None)
        for series in ledgers:
            self._verifications.pop(series, None)
            self._disagreements.pop(series, None)
        self.since_ms = {**self.since_ms, listing.symbol: listing.since_ms}
        self.doubted -= {listing.symbol}

    def of_past(self, ledgers: Mapping[Series, Ledger]) -> "LedgerCache":
        """A cache with the same anchors and wishes, ledgers of a past time, and no results of verification."""
        past = LedgerCache()
        past.load(ledgers, self._anchors, self.extra_wishes)
        return past

    def load_wishes(self, anchors: Mapping[str, int], extra_wishes: Mapping[Series, Span]) -> None:
        """Load anchors and extra wishes from the store; the ledgers stay."""
        self._anchors = dict(anchors)
        self.extra_wishes = dict(extra_wishes)

    def load_checks(
        self,
        verifications: Mapping[Series, Verification],
        disagreements: Iterable[Disagreement],
        revisions: Mapping[Series, int],
    ) -> None:
        """Load the results of verification from the store: checks, disagreements and counts of replaced rows."""
        self._verifications = dict(verifications)
        self._disagreements = {}
        for each in disagreements:
            self.set_disagreement(each)
        self.revisions = Counter(revisions)

    def verification(self, series: Series) -> Verification:
        """The checks of a series: which spans were compared with the exchange, and when."""
        return self._verifications.get(series, _UNVERIFIED)

    def set_verification(self, series: Series, verification: Verification) -> None:
        """Set the checks of a series as stored."""
        self._verifications[series] = verification

    def disagreements(self, series: Series) -> Mapping[tuple[int, Interval], Disagreement]:
        """The exchange's contradictions about a series, by open time and interval of the contradicting kline."""
        return self._disagreements.get(series, {})

    def set_disagreement(self, found: Disagreement) -> None:
        """Add a disagreement as stored."""
        self._disagreements.setdefault(found.series, {})[found.open_ms, found.other] = found

    def note_changed(self, series: Series, changed: Spans, revised: int) -> None:
        """Record that rows were replaced: add `revised` to the count and remove `changed` from the verified spans."""
        self.revisions[series] += revised
        if series in self._verifications:
            self._verifications[series] = self._verifications[series].without(changed)

    def ledger(self, series: Series) -> Ledger:
        """The ledger of a series; empty when the series was never fetched."""
        return self._ledgers.get(series, _EMPTY)

    def set_ledger(self, series: Series, ledger: Ledger) -> None:
        """Set the ledger of a series as committed."""
        self._ledgers[series] = ledger
        self._names.add(series.name)

    def all(self) -> Mapping[Series, Ledger]:
        """All ledgers, by series."""
        return self._ledgers

    def of_other_intervals(self, series: Series) -> list[Series]:
        """The series of the same kind and symbol, `series` included, that have a ledger; shortest interval first."""
        return [known for each in INTERVALS.values() if (known := series.of(each)) in self._ledgers]

    def names(self) -> set[str]:
        """The names of all series that have a ledger."""
        return self._names

    def grid(self, series: Series) -> Grid:
        """The grid of a series, anchored if its anchor is known."""
        interval = series.interval
        return interval.anchored(self._anchors.get(series.name)) if interval.needs_anchor else interval.grid

    def is_anchored(self, series: Series) -> bool:
        """Whether the series' grid is exact: its interval needs no anchor, or the anchor is known."""
        return not series.interval.needs_anchor or series.name in self._anchors

    def set_anchor(self, name: str, open_ms: int) -> None:
        """Set a saved anchor: one open time (ms) of the 3d grid of the series called `name`."""
        self._anchors[name] = open_ms
