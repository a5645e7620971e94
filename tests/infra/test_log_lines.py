"""What the log looks like: sentences on a terminal, JSON otherwise, as LOG_FORMAT says."""

import os
import pty
import re
import sys
from collections.abc import Callable

import orjson
import pytest

from app import events
from infra.log_lines import LogStyle
from infra.telemetry import Telemetry

LOST = events.SocketLost("0", "silent")
COLOUR = "\x1b[33m"


def on_terminal(monkeypatch: pytest.MonkeyPatch, style: LogStyle) -> str:
    """What a terminal gets when an event is logged."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as reading, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        Telemetry("INFO", style=style).observe(LOST)
        return reading.read(4096).decode()


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[str, events.Event], str]:
    def log(log_format: str, event: events.Event) -> str:
        Telemetry("INFO", style=LogStyle(log_format)).observe(event)
        return capsys.readouterr().err

    return log


def test_a_terminal_gets_a_sentence_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    line = on_terminal(monkeypatch, LogStyle())
    assert line.startswith(COLOUR)
    assert re.search(r"\d\d:\d\d:\d\d WARNING Socket .* to the exchange failed and is opened again", line)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in on_terminal(monkeypatch, LogStyle(allows_colour=False))


def test_a_terminal_gets_json_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert orjson.loads(on_terminal(monkeypatch, LogStyle("json")))["event"] == "SocketLost"


def test_a_file_gets_json_or_sentences_without_colour(logged: Callable[[str, events.Event], str]) -> None:
    assert orjson.loads(logged("auto", LOST))["reason"] == "silent"
    line = logged("text", LOST)
    assert line.endswith("Socket 0 to the exchange failed and is opened again (silent)\n")
    assert "\x1b" not in line


def test_a_crash_brings_its_traceback(logged: Callable[[str, events.Event], str]) -> None:
    with pytest.raises(ZeroDivisionError) as crash:
        _ = 1 / 0
    first, *others = logged("text", events.TaskEnded("write", "broken", 1.5, 1, crash.value)).splitlines()
    assert "restarts 1" in first
    assert others[0].startswith("Traceback")
    assert others[-1] == "ZeroDivisionError: division by zero"
