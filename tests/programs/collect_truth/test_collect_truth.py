"""The judge of `make collect-truth` sees what is lost, wrong, doubled and out of order; seeds play the same twice."""

from itertools import islice
from typing import Any

import pytest

from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sandbox.venue_truth import VenueTruth
from tests.programs.collect_truth.mishaps import PROCESSES, mishaps
from tests.system.collected import Collected, Source
from tests.system.exchange_truth import Truth, Verdict

OKX = Source("okx", "swap", "BTC-USDT-SWAP")
HEADERS = {"Klinenode-Market": "swap"}
COMMON = {"exchange_name": "okx", "market": "swap", "symbol_name": "BTC-USDT-SWAP", "symbol": "BTC-USDT"}


def batch(rows: list[dict[str, Any]]) -> tuple[str, dict[str, str], dict[str, Any], int]:
    """A message with these true trades."""
    columns = [
        [
            row["number"],
            str(row["number"]),
            row["price"],
            row["coins"],
            row["size"],
            row["time_ms"],
            row["time_ms"] + 5,
            row["side"] == "sell",
        ]
        for row in rows
    ]
    body = COMMON | {"schema": "trades/1", "amount_unit": "contract", "trades": columns}
    return "market.okx.BTC-USDT.trade", HEADERS | {"Klinenode-Schema": "trades/1"}, body, rows[-1]["time_ms"] + 9


def gap(first: int, end: int, state: str) -> tuple[str, dict[str, str], dict[str, Any], int]:
    times = {"from": "2026-11-30T00:00:00Z", "to": "2026-11-30T00:00:01.5Z", "received": "2026-11-30T00:00:02Z"}
    spans = {"from_sequence": first, "to_sequence": end, "state": state, "reason": "cut", "data_type": "trade"}
    return "market.okx.BTC-USDT.gap", HEADERS | {"Klinenode-Schema": "gap/1"}, COMMON | spans | times, 0


async def judged(*messages: str) -> tuple[Verdict, Collected]:
    """Judge ten true trades in two messages, altered as `messages` say."""
    async with SandboxServer(SystemClock(), symbols=1) as sandbox:
        truth = Truth(sandbox.port)
        first_number = VenueTruth(sandbox.app.venues).newest_trade("okx", OKX.name, SystemClock().now_ms()) - 100
        rows = await truth.trades(OKX, first_number, first_number + 9)
        collected = Collected()
        first, second = rows[:5], rows[5:]
        if "lost" in messages or "confirmed" in messages or "open" in messages:
            del second[2]
        if "wrong" in messages:
            second[1] = {**second[1], "size": "77"}
        for part in (second, first) if "late" in messages else (first, second):
            collected.take(*batch(part))
        if "repeated" in messages:
            collected.take(*batch(rows[3:6]))
        for state in ("open", "confirmed", "closed"):
            if state in messages:
                begin, end = (0, 5) if state == "closed" else (7, 8)
                collected.take(*gap(first_number + begin, first_number + end, state))
        verdict = await truth.compare(collected)
        await truth.aclose()
        return verdict, collected


async def test_what_is_whole_has_no_fault() -> None:
    verdict, collected = await judged("repeated")
    assert verdict == Verdict(trades=10)
    assert collected.repeated == 3


@pytest.mark.parametrize(
    ("messages", "number", "words"),
    [
        (("lost",), "lost", "is lost in silence"),
        (("wrong",), "wrong", "and was {"),
        (("late",), "doubled", "came behind later ones"),
        (("open",), "lost", "stays open at"),
    ],
)
async def test_a_fault_is_seen(messages: tuple[str, ...], number: str, words: str) -> None:
    verdict, _ = await judged(*messages)
    assert getattr(verdict, number) > 0
    assert any(words in fault for fault in verdict.faults), verdict.faults


async def test_a_gap_that_names_it_excuses_a_trade() -> None:
    verdict, _ = await judged("confirmed")
    assert (verdict.faults, verdict.in_gaps) == ([], 1)
    late, _ = await judged("late", "closed")
    assert late.faults == []


def test_a_seed_plays_the_same_again_and_every_kind_within_an_hour() -> None:
    played = list(islice(mishaps(3), 60))
    assert played == list(islice(mishaps(3), 60))
    assert played != list(islice(mishaps(4), 60))
    assert {each.kind for each in played} == {"fault", *PROCESSES}
