"""The measured figures, each with its limit from the same run and its required floor, as a table and as JSON."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One line of the table: our value and the limit's, medians of all rounds; `ratio` is the median of rounds' ratios.

    `floor` is the lowest allowed ratio (or, without a limit, our lowest value); with `is_cost` it is the highest.
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
        """Whether the figure meets its floor; None when it has none."""
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
    """Make a figure of the rounds' pairs (our value, the limit's)."""
    ours, limit = (median(each) for each in zip(*pairs, strict=True))
    measured = [
        (mine, theirs) for mine, theirs in pairs if theirs > 0
    ]  # a limit of zero: the round was shorter than a tick of the CPU clock
    if not measured:  # every round was, in a short run that only tests the bench
        return Figure(part, name, unit, ours, note=note, is_cost=is_cost, rounds=[list(pair) for pair in pairs])
    ratio = median(mine / theirs for mine, theirs in measured)
    return Figure(part, name, unit, ours, limit, ratio, floor, is_cost, note, [list(pair) for pair in pairs])


async def alternating(
    rounds: int, ours: Callable[[], Awaitable[T]], limit: Callable[[], Awaitable[T]]
) -> list[tuple[T, T]]:
    """Measure both by turns, so that other load on the machine affects both alike."""
    pairs = []
    for number in range(rounds):
        if number % 2:  # the order matters, so it alternates
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
