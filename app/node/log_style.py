"""How the settings want the lines of the log."""

from collections.abc import Callable, Mapping

from app.settings import Settings, allows_colour
from infra.log_lines import LogStyle


def log_style(settings: Settings, ids: Callable[[], Mapping[str, str]] | None = None) -> LogStyle:
    """The style of LOG_FORMAT; no colour with NO_COLOR. `ids`: what a line says of the trace it belongs to."""
    return LogStyle(settings.log_format, allows_colour(), ids)
