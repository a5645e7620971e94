"""Clients cannot fill the disk with log lines, neither by their number nor by their length."""

import io
import logging
import logging.config

from uvicorn.config import LOGGING_CONFIG

from app.http.log_bound import KINDS_MAX, LINES_MAX, TEXT_MAX, TRACEBACK_MAX, WINDOW_S, LogBound, bounded


class Log:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.stream = io.StringIO()
        handler = logging.StreamHandler(self.stream)
        handler.addFilter(LogBound(lambda: self.now_s))
        self.logger = logging.getLogger("tests.log_bound")
        self.logger.propagate = False
        self.logger.handlers = [handler]

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_of_each_kind_only_so_many_lines_a_minute_are_written_and_the_others_counted() -> None:
    log = Log()
    for number in range(1_000):
        log.logger.warning("bad request %d", number)
    log.logger.error("something else")
    assert len(log.lines) == LINES_MAX + 1
    log.now_s += WINDOW_S
    log.logger.warning("bad request %d", 1_000)
    assert log.lines[-1] == f"bad request 1000 ({1_000 - LINES_MAX} lines like this one were left out before it)"
    log.now_s += WINDOW_S
    log.logger.warning("bad request %d", 1_001)
    assert log.lines[-1] == "bad request 1001"


def test_a_line_is_no_longer_than_it_may_be() -> None:
    log = Log()
    log.logger.warning("request for %s", "x" * 1_000_000)
    log.logger.error("failed", exc_info=ValueError("y" * 1_000_000))
    assert len(log.stream.getvalue()) < TEXT_MAX + TRACEBACK_MAX + 200


def test_messages_that_are_all_different_share_one_bound() -> None:
    log = Log()
    for number in range(10_000):
        log.logger.warning(f"from {number}")  # noqa: G004  as a careless library does
    assert len(log.lines) == KINDS_MAX + LINES_MAX


def test_the_servers_logging_is_bounded_for_every_logger() -> None:
    config = bounded(LOGGING_CONFIG)
    assert config["handlers"]["default"]["filters"] == ["bound"]
    assert config["root"]["handlers"] == ["default"]
    assert "filters" not in LOGGING_CONFIG["handlers"]["default"], "uvicorn's own is left as it is"
    made = logging.config.DictConfigurator(config).configure_filter(config["filters"]["bound"])
    assert isinstance(made, LogBound)
