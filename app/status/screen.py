"""The screen of `klinenode status`: one sentence on the state, then as many facts as the terminal has room for."""

from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.filling.amounts import of_seconds
from app.status.facts import Fact, facts
from app.status.snapshot import COLLECTOR, Snapshot
from app.status.trend import Rates

LIVE_LINE: Final = 1  # of the terminal, where the cursor stands
MARGIN: Final = 2


def sentence(snapshot: Snapshot, rates: Rates) -> str:
    """The state in one sentence, whole: what is wrong comes first."""
    until_ms = snapshot.exchange.stand_down_until_ms
    if until_ms is not None and until_ms > snapshot.taken_ms:
        left, why = of_seconds((until_ms - snapshot.taken_ms) // 1000), snapshot.exchange.stand_down_reason
        return f"Standing down for {left}: {why}; what is held is served."
    if snapshot.role == COLLECTOR:
        wrong = f", but something is wrong: {snapshot.reasons[0]}{_more(snapshot)}" if snapshot.reasons else ""
        return f"Collecting{wrong or ', and nothing is wrong'}."
    if not snapshot.is_ready:
        why = snapshot.reasons[0] if snapshot.reasons else "it has just started"
        return f"Not ready yet: {why}{_more(snapshot)}."
    if snapshot.reasons:
        return f"Ready, but something is wrong: {snapshot.reasons[0]}{_more(snapshot)}."
    if snapshot.missing:
        left = "" if rates.left_s is None else f", {of_seconds(rates.left_s)} to go"
        return f"Ready: every series is fresh; {snapshot.missing:,} older klines are still to come{left}."
    return "Ready: every series is fresh, and nothing is missing."


def screen(console: Console, url: str, snapshot: Snapshot, rates: Rates, *, is_whole: bool = False) -> RenderableType:
    """The screen for a console of its size: facts that do not fit are left out, details before the others.

    `is_whole`: nothing is left out, for output that is read by scrolling.
    """
    colour = "green" if snapshot.is_ready and not snapshot.reasons else "yellow" if snapshot.is_ready else "red"
    time = datetime.fromtimestamp(snapshot.taken_ms / 1000, UTC).strftime("%H:%M:%S")
    program = f"klinenode {snapshot.version}".rstrip()
    parts: list[RenderableType] = [
        Text(f"{program} · {url} · {time} UTC · up {of_seconds(snapshot.uptime_s)}", style="dim"),
        Text(sentence(snapshot, rates), style=f"bold {colour}"),
        Text(),
    ]
    room = console.size.height - LIVE_LINE - sum(_height(console, part) for part in parts)
    shown: list[Fact] = []
    for fact in facts(snapshot, rates):
        if is_whole or _height(console, _table([*shown, fact])) <= room:
            shown.append(fact)
    return Group(*parts, _table(shown))


def no_node(url: str, reason: str) -> str:
    """The state when no node answers."""
    return f"No node answers at {url} ({reason}); start one with `klinenode serve`, or name another with --url."


def _more(snapshot: Snapshot) -> str:
    others = len(snapshot.reasons) - 1
    return f" (and {others} more)" if others > 0 else ""


def _table(shown: list[Fact]) -> Table:
    table = Table.grid(padding=(0, MARGIN, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, text in shown:
        table.add_row(label, text if not isinstance(text, str) else Text(text))
    return table


def _height(console: Console, part: RenderableType) -> int:
    return len(console.render_lines(part))
