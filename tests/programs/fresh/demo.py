"""Starts `make demo`, sends the README's first request, and stops it as Ctrl-C does. Standard library only."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Final

README: Final = Path(__file__).parents[3] / "README.md"
ANSWER_S_MAX: Final = 180.0
ASK_EVERY_S: Final = 0.25
STOP_S_MAX: Final = 30.0


def main() -> None:
    with subprocess.Popen(["make", "demo"], start_new_session=True) as process:
        try:
            rows = answered(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(f"the demo was still there {STOP_S_MAX:.0f} s after Ctrl-C")
    print(f"{rows} klines answered")


def asked() -> str:
    """The URL of the README's first curl."""
    found = re.search(r"^curl '(http[^']*)'$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, "the README asks nothing"
    return found[1]


def answered(process: subprocess.Popen[bytes]) -> int:
    """The number of klines in the first answer; exit with an error if none comes within ANSWER_S_MAX."""
    url, end = asked(), time.monotonic() + ANSWER_S_MAX
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            return len(json.load(answer))
        time.sleep(ASK_EVERY_S)
    sys.exit(f"no klines after {ANSWER_S_MAX:.0f} s, or the demo ended by itself: {process.poll()}")


if __name__ == "__main__":
    main()
