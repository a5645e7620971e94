"""Tests of the bench: every part runs against the current node, and its figures are computed correctly."""

import asyncio
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from tests.programs.bench.bench import PARTS, main
from tests.programs.bench.figures import Curve, Figure, alternating, compared, show
from tests.programs.bench.load import QUANTILES, drive
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.plot import svg
from tests.programs.bench.raw import reply_file
from tests.programs.bench.stage import cpu_s
from tests.system.processes import ROOT, Programs, free_port, until

RAW = (sys.executable, "-m", "tests.programs.bench.raw")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_leaves_its_figures(tmp_path: Path, part: str) -> None:
    main(["--tiny", "--parts", part, "--out", str(tmp_path)])
    report = orjson.loads((tmp_path / "latest.json").read_bytes())
    assert report["figures"], "a part without figures"
    for figure in report["figures"]:
        assert figure["ours"] >= 0 or part == "streams"  # idle time is subtracted, and so few frames leave little
        assert (figure["limit"] is None) == (figure["ratio"] is None)
    assert ET.parse(tmp_path / "latency.svg").getroot().tag.endswith("svg")


def test_a_figure_is_the_median_of_rounds_and_knows_its_floor() -> None:
    rate = compared("p", "n", "u", [(80, 100), (300, 100), (95, 100)], floor=0.9)
    assert (rate.ours, rate.limit, rate.ratio, rate.is_met) == (95, 100, 0.95, True)
    cost = compared("p", "n", "u", [(2, 1), (4, 1), (3, 1)], floor=1.5, is_cost=True)
    assert (cost.ratio, cost.is_met, cost.asked) == (3, False, "≤ 1.5 ×")
    assert Figure("p", "n", "u", 5).is_met is None
    out = Console(record=True, width=160)
    show([rate, cost], out)
    text = out.export_text()
    assert "0.95 ×" in text
    assert "not met" in text


async def test_rounds_alternate_and_take_turns_in_going_first() -> None:
    order: list[str] = []

    async def note(name: str) -> str:
        order.append(name)
        return name

    pairs = await alternating(3, lambda: note("ours"), lambda: note("limit"))
    assert pairs == [("ours", "limit")] * 3
    assert order == ["ours", "limit", "limit", "ours", "ours", "limit"]


def test_the_plot_has_a_line_for_each_curve() -> None:
    rising = [0.1 * number for number in range(1, len(QUANTILES) + 1)]
    drawn = svg([Curve("a & b", "ours", rising), Curve("a & b", "limit", rising), Curve("other", "ours", rising)])
    root = ET.fromstring(drawn)
    assert len(root.findall(".//{*}polyline")) == 3
    assert "a & b" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]


async def test_the_generator_asks_each_path_once_and_counts_errors(tmp_path: Path) -> None:
    """Covers bodies larger than one read of the kernel, answers without a body, and refusals."""
    for status, body in ((200, b"x" * 3_000_000), (304, b""), (503, b"no")):
        headers = [("content-length", str(len(body)))] if body else []
        file = reply_file(tmp_path / "reply", status, headers, body)
        async with Programs(tmp_path) as programs:
            port = free_port()
            program = programs.start("fixed", str(port), str(file), command=RAW, cwd=ROOT)
            await until(lambda port=port: _listens(port), "the server listens")  # type: ignore[misc]
            requests = [b"GET /%d HTTP/1.1\r\nHost: here\r\n\r\n" % number for number in range(21)]
            found = await asyncio.to_thread(drive, port, requests, 4, None)
            assert (found["requests"], found["failed"]) == (21, 21 if status == 503 else 0)
            assert cpu_s(program) > 0
            program.kill()


async def test_a_pinned_clock_stands_jumps_and_runs_for_all(tmp_path: Path) -> None:
    mine = PinnedClock.made(tmp_path / "clock", 1_000)
    theirs = PinnedClock(tmp_path / "clock")
    assert theirs.now_ms() == 1_000
    mine.set(5_000)
    assert theirs.now_ms() == 5_000
    mine.set(9_000, runs=True)

    async def moves() -> bool:
        return theirs.now_ms() > 9_000

    await until(moves, "the clock runs")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
