"""What was measured: each figure beside its own limit of the same run, as a table, as JSON, and what it is held to."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One line: ours and the limit, medians of all rounds; `ratio` is the median of the rounds' own ratios.

    `floor` holds a ratio (or, without a limit, our own value) from below, or from above where `is_cost`.
    """

    part: str
    name: str
    unit: str
    ours: float
    limit: float | None = None
    ratio: float | None = None
    floor: float | None = None
    is_cost: bool = False
    note: str = ""
    rounds: Sequence[Any] = field(default_factory=list)

    @property
    def is_met(self) -> bool | None:
        """Whether it is what the project asks of itself; None when nothing is asked."""
        found = self.ours if self.ratio is None else self.ratio
        if self.floor is None:
            return None
        return found <= self.floor if self.is_cost else found >= self.floor

    @property
    def asked(self) -> str:
        """The floor as text."""
        if self.floor is None:
            return "–"
        return f"{'≤' if self.is_cost else '≥'} {self.floor:,.6g}{' ×' if self.ratio is not None else ''}"


@dataclass
class Curve:
    """The latencies of one measurement for the plot: `ms` at load.QUANTILES."""

    group: str
    name: str
    ms: Sequence[float]


def compared(
    part: str,
    name: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    *,
    floor: float | None = None,
    is_cost: bool = False,
    note: str = "",
) -> Figure:
    """The figure of rounds of (ours, limit)."""
    ours, limit = (median(each) for each in zip(*pairs, strict=True))
    measured = [
        (mine, theirs) for mine, theirs in pairs if theirs > 0
    ]  # else the round was shorter than a tick of the CPU clock
    if not measured:  # all were: of a cheap server's CPU in a run that only shows that the bench works
        return Figure(part, name, unit, ours, note=note, is_cost=is_cost, rounds=[list(pair) for pair in pairs])
    ratio = median(mine / theirs for mine, theirs in measured)
    return Figure(part, name, unit, ours, limit, ratio, floor, is_cost, note, [list(pair) for pair in pairs])


async def alternating(
    rounds: int, ours: Callable[[], Awaitable[T]], limit: Callable[[], Awaitable[T]]
) -> list[tuple[T, T]]:
    """Measure both by turns, so that what else the machine does meets both."""
    pairs = []
    for number in range(rounds):
        if number % 2:  # whoever goes first finds another machine than whoever follows
            theirs = await limit()
            pairs.append((await ours(), theirs))
        else:
            mine = await ours()
            pairs.append((mine, await limit()))
    return pairs


_VERDICTS: Final = {True: "[green]met", False: "[red]not met", None: ""}


def show(figures: Sequence[Figure], out: Console, *, title: str = "klinenode against its limits") -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left")
    table.add_column("part")
    table.add_column("what", overflow="fold")
    for name in ("ours", "limit", "ratio", "asked"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("note", overflow="fold")
    part = ""
    for each in figures:
        if part and each.part != part:
            table.add_section()
        limit = "–" if each.limit is None else f"{each.limit:,.4g}" if each.limit < 100 else f"{each.limit:,.0f}"
        ours = f"{each.ours:,.4g}" if each.ours < 100 else f"{each.ours:,.0f}"
        ratio = "–" if each.ratio is None else f"{each.ratio:.2f} ×"
        shown_part, part = "" if each.part == part else each.part, each.part
        what = f"{each.name} ({each.unit})"
        table.add_row(shown_part, what, ours, limit, ratio, each.asked, _VERDICTS[each.is_met], each.note)
    out.print(table)


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The table for programs."""
    return [{**asdict(each), "asked": each.asked, "met": each.is_met} for each in figures]
