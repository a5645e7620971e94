"""Node and sandbox answer every klines request like an oracle that was written from the facts alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tests.http import window_oracle as oracle
from tests.http.fakes import OTHERS_MAY_USE_RANDOM
from tests.http.window_cases import SYMBOLS, Question, ask_windows, judged
from tests.http.window_oracle import Asked, Row, Truth

SEED = 20261121
CASES = 500
MINUTE = 60_000
TRUTH = Truth([Row(minute * MINUTE, b"%d" % minute) for minute in range(10, 20)], Row(20 * MINUTE, b"live"))


def asked(start: int | None = None, end: int | None = None, limit: int = 500, *, final: bool = False) -> Asked:
    return Asked("BTCUSDT", "1m", start, end, limit, final)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (asked(limit=3), b"[18,19,live]"),
        (asked(limit=3, final=True), b"[17,18,19]"),
        (asked(start=12 * MINUTE, limit=2), b"[12,13]"),
        (asked(start=12 * MINUTE + 1, limit=2), b"[13,14]"),
        (asked(start=0, limit=2), b"[10,11]"),
        (asked(start=12 * MINUTE, end=12 * MINUTE), b"[12]"),
        (asked(start=12 * MINUTE + 1, end=13 * MINUTE - 1), b"[]"),
        (asked(start=11 * MINUTE, end=14 * MINUTE, limit=2), b"[11,12]"),
        (asked(end=12 * MINUTE), b"[10,11,12]"),
        (asked(end=13 * MINUTE - 1, limit=2), b"[11,12]"),
        (asked(end=9 * MINUTE), b"[]"),
        (asked(start=19 * MINUTE, end=99 * MINUTE), b"[19,live]"),
        (asked(start=20 * MINUTE), b"[live]"),
        (asked(start=20 * MINUTE, final=True), b"[]"),
        (asked(start=21 * MINUTE), b"[]"),
    ],
)
def test_the_oracle_knows_the_windows_of_the_facts(question: Asked, answer: bytes) -> None:
    assert oracle.window(TRUTH, question) == answer


async def test_a_wrong_answer_is_noticed() -> None:
    async def empty(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    question = Question((("symbol", SYMBOLS[0]), ("interval", "1m")), f"symbol={SYMBOLS[0]}&interval=1m".encode())
    with pytest.raises(AssertionError, match="node"):
        await judged(empty, empty, question, {(SYMBOLS[0], "1m"): TRUTH}, Counter[Any]())


@OTHERS_MAY_USE_RANDOM
async def test_node_and_sandbox_agree_with_the_oracle(tmp_path: Path) -> None:
    counts = await ask_windows(tmp_path, CASES, SEED)
    assert counts["node 200"] > CASES / 2
    assert counts["sandbox 200"] > CASES / 2
    assert {f"node {code}" for code in (-1101, -1102, -1120, -1121, -1130, -1023)} <= set(counts)
