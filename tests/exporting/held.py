"""A small database of every kind of rows, and exports of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.exporting.export import Export, Exported, Sources
from app.exporting.held_lines import HeldLines
from app.exporting.manifest import Manifest, manifest_of
from app.exporting.plan import PlannedFile, Split, planned
from app.holding.as_of import AsOfReader
from app.holding.rest_forms import RestForms
from app.kinds.funding import FUNDING
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.kinds.price_klines import PREMIUM
from app.ports.export import Format, OpenRows
from app.ports.store import RowReader, StoreReader
from app.querying.archived_rows import ByOrigin
from infra.exporting.folder import Folder
from infra.exporting.formats import open_rows
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.sqlite.material import FixedClock, kline

DAY0_MS: Final = 1_767_139_200_000  # 2025-12-31: the next day is another year, and another file
MINUTES: Final = Series(KLINES, "BTCUSDT", M1)
HOURS: Final = Series(KLINES, "ETHUSDT", INTERVALS["1h"])
PREMIUMS: Final = Series(PREMIUM, "BTCUSDT", INTERVALS["1h"])
RATIOS: Final = Series(next(iter(METRICS.values())), "BTCUSDT", INTERVALS["5m"])
FUNDINGS: Final = Series(FUNDING, "BTCUSDT", INTERVALS["1h"])
ALL: Final = (MINUTES, HOURS, PREMIUMS, RATIOS, FUNDINGS)
SPAN: Final = Span(DAY0_MS, DAY0_MS + 2 * DAY_MS)
ABSENT: Final = Span(DAY0_MS + 600 * MINUTE_MS, DAY0_MS + 660 * MINUTE_MS)
MISSING: Final = Span(DAY0_MS + 2_000 * MINUTE_MS, DAY0_MS + 2_010 * MINUTE_MS)


def rows_of(series: Series) -> list[Any]:
    """The rows that the exchange has of a series in SPAN."""
    if series.kind is FUNDING:
        times = range(DAY0_MS + 60_003, SPAN.end_ms, 8 * 3_600_000)
        return [series.kind.row(at, "-0.00001250", "" if at % 2 else "60000.12345678", None) for at in times]
    opens = [at for at in series.interval.grid.opens(*SPAN) if series != MINUTES or at not in range(*ABSENT)]
    if series.kind is RATIOS.kind:
        return [series.kind.row(at, f"{at % 977}.5", None, f"0.{at % 91:04}") for at in opens]
    if series.kind is PREMIUM:
        return [Kline(at, "-0.00012345", "0.00010000", "-1.5", "0", "0", "0", 12, "0", "0") for at in opens]
    return [kline(at) for at in opens]


@dataclass
class Held:
    """The database at `url`, which holds all of `rows_of` but the rows of MISSING."""

    url: str
    writer: SqliteWriter
    reader: SqliteReader

    @classmethod
    async def made(cls, folder: Path) -> "Held":
        """Write the rows, and seal what can be."""
        url = f"sqlite:///{folder / 'held.db'}"
        held = cls(url, await SqliteWriter.open(url, FixedClock()), SqliteReader(url))
        for series in ALL:
            rows = [row for row in rows_of(series) if series != MINUTES or row.open_ms not in range(*MISSING)]
            spans = Spans([SPAN]) - Spans([ABSENT, MISSING] if series == MINUTES else [])
            await held.writer.commit([Batch(series, Source.REST, spans, rows)])
        await held.writer.commit([Batch(MINUTES, Source.ABSENT, Spans([ABSENT]), [])])
        at_ms: int | None = 0
        while at_ms is not None:
            at_ms = (await held.writer.seal(MINUTES, Span(at_ms, SPAN.end_ms - DAY_MS))).next_ms
        return held

    async def close(self) -> None:
        """Close the database."""
        await self.reader.close()
        await self.writer.close()

    def files(
        self, form: Format, series: Sequence[Series] = ALL, *, split: Split = Split.YEAR, is_float: bool = False
    ) -> list[PlannedFile]:
        """The files of an export of some series."""
        asked = {each: (each.interval.grid, SPAN) for each in series}
        return planned(asked, form, split, is_float=is_float)

    async def export(
        self,
        folder: Path,
        files: Sequence[PlannedFile],
        advance: Callable[[int], None] = lambda rows: None,
        opened: OpenRows = open_rows,
    ) -> Exported:
        """Run an export, with reads so short that a file has many."""
        return await export_of(sources_of(self.reader, opened=opened), folder, files, advance)


def sources_of(store: StoreReader, as_of_ms: int | None = None, opened: OpenRows = open_rows) -> Sources:
    """What exports of a database read, now or as of a past time."""
    reader: RowReader = store if as_of_ms is None else AsOfReader(store, as_of_ms)
    forms = RestForms(FixedClock(), store, lambda event: None, lambda symbol: None)
    lines = HeldLines(reader, ByOrigin(reader, forms), 500)
    return Sources(reader, lines, opened, store if as_of_ms is None else None, as_of_ms)


async def export_of(
    sources: Sources, folder: Path, files: Sequence[PlannedFile], advance: Callable[[int], None] = lambda rows: None
) -> Exported:
    """Run an export into a folder."""
    target = Folder(folder)
    target.clear()
    return await Export(sources, target, files, advance).run("0.1.0", ["export"], FixedClock())


def manifest_in(folder: Path) -> Manifest:
    """The manifest of an export."""
    return manifest_of((folder / "manifest.json").read_bytes())
