"""A bound on the number and length of libraries' log lines, which any client can cause."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

LINES_MAX: Final = 10  # of one kind (logger and message template) in WINDOW_S
WINDOW_S: Final = 60.0
TEXT_MAX: Final = 2_000  # characters of a message
TRACEBACK_MAX: Final = 8_000  # characters of a traceback; its end is kept, which has the error
KINDS_MAX: Final = 64  # counted separately; libraries have few messages, and those are constants
_REST: Final = ("", "")


class _Window:
    def __init__(self, begun_s: float) -> None:
        self.begun_s = begun_s
        self.lines = 0
        self.suppressed = 0


class LogBound(logging.Filter):
    """A logging filter that passes LINES_MAX records of each kind a minute, shortened, and counts the others."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._windows: dict[tuple[str, str], _Window] = {}
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is written. The first one of a new minute says how many were left out."""
        now_s = self._monotonic_s()
        kind = (record.name, str(record.msg)[:TEXT_MAX])
        if kind not in self._windows and len(self._windows) >= KINDS_MAX:
            kind = _REST
        window = self._windows.setdefault(kind, _Window(now_s))
        suppressed = 0
        if now_s - window.begun_s >= WINDOW_S:
            suppressed = window.suppressed
            window = self._windows[kind] = _Window(now_s)
        window.lines += 1
        if window.lines > LINES_MAX:
            window.suppressed += 1
            return False
        self._shorten(record, suppressed)
        return True

    def _shorten(self, record: logging.LogRecord, suppressed: int) -> None:
        text = record.getMessage()
        if len(text) > TEXT_MAX:
            text = f"{text[:TEXT_MAX]}… ({len(text)} characters)"
        if suppressed:
            text += f" ({suppressed} lines like this one were left out before it)"
        record.msg, record.args = text, None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)[-TRACEBACK_MAX:]


def bounded(config: dict[str, Any]) -> dict[str, Any]:
    """The logging `config` of uvicorn with a LogBound on its default handler, which the root logger uses too."""
    handlers = {**config["handlers"], "default": {**config["handlers"]["default"], "filters": ["bound"]}}
    root = {"handlers": ["default"], "level": "WARNING"}
    return {**config, "filters": {"bound": {"()": LogBound}}, "handlers": handlers, "root": root}
