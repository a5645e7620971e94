"""How the settings want the lines of the log."""

from app.settings import Settings, allows_colour
from infra.log_lines import LogStyle


def log_style(settings: Settings) -> LogStyle:
    """The style of LOG_FORMAT; no colour with NO_COLOR."""
    return LogStyle(settings.log_format, allows_colour())
