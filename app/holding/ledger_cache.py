"""What the node knows it holds: ledgers, anchors of the 3d grids and checks of every series, in memory."""

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
    """A copy of the store's ledger that is changed only after a commit succeeded."""

    def __init__(self) -> None:
        self._ledgers: dict[Series, Ledger] = {}
        self._anchors: dict[str, int] = {}
        self._names: set[str] = set()
        self._verifications: dict[Series, Verification] = {}
        self._disagreements: dict[Series, dict[tuple[int, Interval], Disagreement]] = {}
        self.revisions: Counter[Series] = Counter()
        """By series: how many rows were ever replaced."""
        self.extra_wishes: dict[Series, Span] = {}
        self.listings: dict[str, Listing] = {}
        """By symbol: which listing owns the rows that are held."""
        self.since_ms: dict[str, int] = {}
        """Of names that belonged to another listing before: where the first minute of this one opens."""
        self.doubted: frozenset[str] = frozenset()
        """Names of which nobody knows at the moment whose klines are held under them."""

    def load(
        self, ledgers: Mapping[Series, Ledger], anchors: Mapping[str, int], extra_wishes: Mapping[Series, Span]
    ) -> None:
        """Take over what the store says."""
        self._ledgers = dict(ledgers)
        self._anchors = dict(anchors)
        self._names = {series.name for series in ledgers}
        self.extra_wishes = dict(extra_wishes)

    def set_listings(self, listings: Iterable[Listing]) -> None:
        """Take over what is known of whose klines are held."""
        self.listings = {each.symbol: each for each in listings}
        known = self.listings.values()
        self.since_ms = {each.symbol: each.since_ms for each in known if each.since_ms}
        self.doubted = frozenset(each.symbol for each in known if each.is_doubted)

    def relisted(self, listing: Listing, ledgers: Mapping[Series, Ledger], names: Iterable[str]) -> None:
        """A symbol belongs to another listing now: its series, those of `names`, have these ledgers."""
        self._ledgers.update(ledgers)
        for name in names:
            self._anchors.pop(name, None)
        for series in ledgers:
            self._verifications.pop(series, None)
            self._disagreements.pop(series, None)
        self.since_ms = {**self.since_ms, listing.symbol: listing.since_ms}
        self.doubted -= {listing.symbol}

    def load_wishes(self, anchors: Mapping[str, int], extra_wishes: Mapping[Series, Span]) -> None:
        """Take over what the store says besides the ledgers."""
        self._anchors = dict(anchors)
        self.extra_wishes = dict(extra_wishes)

    def load_checks(
        self,
        verifications: Mapping[Series, Verification],
        disagreements: Iterable[Disagreement],
        revisions: Mapping[Series, int],
    ) -> None:
        """Take over what the store says of verification."""
        self._verifications = dict(verifications)
        self._disagreements = {}
        for each in disagreements:
            self.set_disagreement(each)
        self.revisions = Counter(revisions)

    def verification(self, series: Series) -> Verification:
        """What of a series was compared with the exchange."""
        return self._verifications.get(series, _UNVERIFIED)

    def set_verification(self, series: Series, verification: Verification) -> None:
        """Take over the checks as they were stored."""
        self._verifications[series] = verification

    def disagreements(self, series: Series) -> Mapping[tuple[int, Interval], Disagreement]:
        """Where the exchange contradicts itself about a series: by open time and interval of its other kline."""
        return self._disagreements.get(series, {})

    def set_disagreement(self, found: Disagreement) -> None:
        """Take over a contradiction as it was stored."""
        self._disagreements.setdefault(found.series, {})[found.open_ms, found.other] = found

    def note_changed(self, series: Series, changed: Spans, revised: int) -> None:
        """Rows were replaced: what was verified of them is no longer what is held."""
        self.revisions[series] += revised
        if series in self._verifications:
            self._verifications[series] = self._verifications[series].without(changed)

    def ledger(self, series: Series) -> Ledger:
        """The ledger of a series; empty when nothing was ever asked."""
        return self._ledgers.get(series, _EMPTY)

    def set_ledger(self, series: Series, ledger: Ledger) -> None:
        """Take over the ledger as it was committed."""
        self._ledgers[series] = ledger
        self._names.add(series.name)

    def all(self) -> Mapping[Series, Ledger]:
        """Every ledger."""
        return self._ledgers

    def of_other_intervals(self, series: Series) -> list[Series]:
        """The series of the same kind and symbol that something is known of, shortest interval first."""
        return [known for each in INTERVALS.values() if (known := series.of(each)) in self._ledgers]

    def names(self) -> set[str]:
        """The name of every series that something is known of."""
        return self._names

    def grid(self, series: Series) -> Grid:
        """The grid of a series, anchored when its anchor is known."""
        return series.interval.anchored(self._anchors.get(series.name))

    def is_anchored(self, series: Series) -> bool:
        """Whether the grid of a series says which rows must exist."""
        return not series.interval.needs_anchor or series.name in self._anchors

    def set_anchor(self, name: str, open_ms: int) -> None:
        """Take over an anchor that was saved, by the name of the series."""
        self._anchors[name] = open_ms
