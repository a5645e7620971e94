"""Options that several commands have, and what their texts mean."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.output import fail

if TYPE_CHECKING:
    from app.domain.interval import Interval
    from app.operate import Target
    from app.settings import Settings

TIME_MS_MAX: Final = 4_102_444_800_000  # 2100-01-01; a later time is a mistake, for example µs
SHOWN_MAX: Final = 64  # characters of a wrong time that the error repeats
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", help="Repeatable, also BTCUSDT@markPrice; default: every wished symbol.")
]
Intervals = Annotated[list[str] | None, typer.Option("--interval", help="Repeatable; default: every wished one.")]
Start = Annotated[str | None, typer.Option(help="ISO 8601 (UTC unless it says otherwise) or ms.")]
End = Annotated[str | None, typer.Option(help="ISO 8601 or ms; default: now.")]
Demo = Annotated[bool, typer.Option("--demo", help="For the node that `klinenode demo` runs in this folder.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout, all else to stderr.")]


def target_of(
    settings: "Settings", symbols: list[str] | None, codes: list[str] | None, start: str | None, end: str | None
) -> "Target":
    """The series and the span that the options name. Ends the command if they name none."""
    from app.operate import Target

    return Target(
        tuple(map(_name, symbols)) if symbols else None,
        _intervals(settings, codes),
        ms_of(start, "--start"),
        ms_of(end, "--end"),
    )


def ms_of(text: str | None, option: str) -> int | None:
    """A time of the command line in ms; None if the option was not given. Ends the command if it is no time."""
    if text is None:
        return None
    try:
        time_ms = int(text) if text.isascii() and text.isdigit() else _iso_ms(text)
    except (ValueError, OverflowError):  # int() refuses thousands of digits with a ValueError
        shown = text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
        fail(f"{option} {shown} is neither ms nor ISO 8601, for example 2026-11-01T00:00:00")
    if not 0 <= time_ms <= TIME_MS_MAX:
        fail(f"{option} must lie between 1970 and 2100; ms are counted from 1970-01-01, for example 1793491200000")
    return time_ms


def _name(text: str) -> str:
    from app.kinds.registry import KINDS, spelt

    name = spelt(text)
    if name is None:
        kinds = ", ".join(f"SYMBOL@{suffix}" for suffix in KINDS if suffix)
        fail(f"--symbol {text}: no such series; besides those of symbols there are {kinds}")
    return name


def _intervals(settings: "Settings", codes: list[str] | None) -> "tuple[Interval, ...]":
    from app.domain.interval import INTERVALS

    if not codes:
        return settings.interval_list
    unknown = [code for code in codes if code not in INTERVALS]
    if unknown:
        fail(f"unknown interval {unknown[0]}; Binance has {','.join(INTERVALS)} (1m is not 1M)")
    return tuple(interval for code, interval in INTERVALS.items() if code in codes)


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)
