"""The rows of several days' files of metrics as one sequence.

Files overlap: the row before a day's first one is in two of them in some years (binance-facts section 6.3).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from app.binance.metrics_csv import MetricsFile
from app.binance.statistics_rows import STATISTICS
from app.domain.columns import EMPTY, Columns
from app.domain.kind import Row


class MetricsDays(NamedTuple):
    """The rows of some days by endpoint, strictly ascending.

    `replaced` has rows that another one of the same time replaced, ascending; of several of one time the last. An
    endpoint without any is left out of it.
    """

    rows: dict[str, Columns]
    replaced: dict[str, Columns]


def joined(files: Sequence[MetricsFile]) -> MetricsDays:
    """The rows of `files`, in the order of their days.

    Of rows of the same time the one of the later day counts, except for values that it does not know.
    """
    made = MetricsDays({}, {})
    for endpoint in STATISTICS:
        parts: list[Columns] = []
        replaced: dict[int, Row] = {}
        for file in files:
            _add(file.rows[endpoint], parts, replaced)
            replaced.update((row.open_ms, row) for row in file.revisions.get(endpoint, ()))
        made.rows[endpoint] = Columns.joined(parts)
        if replaced:
            made.replaced[endpoint] = Columns.of([replaced[open_ms] for open_ms in sorted(replaced)])
    return made


def _add(later: Columns, parts: list[Columns], replaced: dict[int, Row]) -> None:
    """Add the rows of a later day to `parts`, and those that they replace to `replaced`."""
    if not later:
        return
    before = shared = EMPTY
    if parts and parts[-1].opens_ms[-1] >= later.opens_ms[0]:
        earlier = parts.pop()
        before = earlier.between(0, later.opens_ms[0])
        shared = earlier[len(before) :]
        inside = later.between(0, shared.opens_ms[-1] + 1)
        later = later[len(inside) :]
        shared = _merged(shared, inside, replaced)
    parts += [part for part in (before, shared, later) if part]


def _merged(earlier: Columns, later: Columns, replaced: dict[int, Row]) -> Columns:
    rows: dict[int, Any] = {row.open_ms: row for row in earlier}
    for row in later:
        former = rows.get(row.open_ms, row)
        made = type(row)._make(before if value is None else value for value, before in zip(row, former, strict=True))
        if made != former:
            replaced[row.open_ms] = former
        rows[row.open_ms] = made
    return Columns.of([rows[open_ms] for open_ms in sorted(rows)])
