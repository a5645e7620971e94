"""How an event becomes a line of the log: JSON for programs, a sentence for people."""

import dataclasses
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import structlog

from app.events import Event
from app.sentences import sentence
from infra.process.clock import SystemClock

_COLOURS: Final = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31"}
"""By level: the code of a terminal's colour; a usual line has none."""

Write = Callable[[int, Event], None]
"""Writes the line of an event, at a level."""


class LogStyle(NamedTuple):
    """How lines look: LOG_FORMAT (auto: sentences on a terminal, else JSON), and whether colours are allowed there."""

    log_format: str = "auto"
    allows_colour: bool = True
    ids: Callable[[], Mapping[str, str]] | None = None
    """Fields that lines of JSON have besides: those of the trace that an event belongs to."""


def line_writer(style: LogStyle) -> Write:
    """What writes the lines of this process, to stderr."""
    is_terminal = sys.stderr.isatty()
    if style.log_format == "text" or (style.log_format == "auto" and is_terminal):
        return _text_writer(has_colour=is_terminal and style.allows_colour)
    return _json_writer(style.ids)


def _text_writer(*, has_colour: bool) -> Write:
    clock, stream = SystemClock(), sys.stderr

    def write(level: int, event: Event) -> None:
        time = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).strftime("%H:%M:%S")
        line = f"{time} {logging.getLevelName(level):<7} {sentence(event)}"
        if has_colour and level in _COLOURS:
            line = f"\x1b[{_COLOURS[level]}m{line}\x1b[0m"
        crash = "".join(traceback.format_exception(error)) if (error := _crash(event)) is not None else ""
        stream.write(f"{line}\n{crash}")  # in one piece: other threads write too
        stream.flush()

    return write


def _json_writer(ids: Callable[[], Mapping[str, str]] | None) -> Write:
    log: Any = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=True,
    ).bind()

    def write(level: int, event: Event) -> None:
        fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        for name in [name for name, value in fields.items() if isinstance(value, Exception)]:
            fields["exc_info"] = fields.pop(name)
        if ids is not None:
            fields |= ids()
        log.log(level, type(event).__name__, **fields)

    return write


def _crash(event: Event) -> Exception | None:
    values = (getattr(event, field.name) for field in dataclasses.fields(event))
    return next((value for value in values if isinstance(value, Exception)), None)
