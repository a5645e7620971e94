"""Klines requests of every shape, sent to a node and to the sandbox and judged by the oracle."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import orjson
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from starlette.types import ASGIApp

from app.domain.interval import DAY_MS, HOUR_MS, MINUTE_MS
from tests.http import window_oracle as oracle
from tests.http.asgi import get
from tests.http.window_oracle import Asked, Pair, Row, Truth
from tests.patience import PATIENCE_S
from tests.system.world import START_MS, Watched, World, world

CHINESE: Final = "币安新生USDT"
LISTED_MS: Final = START_MS // MINUTE_MS * MINUTE_MS - 40 * HOUR_MS
SYMBOLS: Final = ("NEW1121USDT", "NEW1120USDT", "NEW1119USDT", "NEW1118USDT", CHINESE)  # young: few klines to compute
WISHED: Final = ("NEW1120USDT", CHINESE)  # these are held; the others are read through
STEPS_MS: Final = (1, 30_000, MINUTE_MS, HOUR_MS, DAY_MS, 3 * DAY_MS)
ROUND: Final = 4_000  # questions per world: time stands still in it, so one minute's weight must suffice for all
_QUIET_S: Final = 30  # second of a minute, away from every close


@dataclass(frozen=True)
class Question:
    """A request: its parameters, and how they were written."""

    pairs: tuple[Pair, ...]
    raw: bytes


T = TypeVar("T")


def _mostly(good: st.SearchStrategy[T], rest: st.SearchStrategy[T], percent: int = 93) -> st.SearchStrategy[T]:
    return st.integers(0, 99).flatmap(lambda number: good if number < percent else rest)


def _mixed_case(text: str, upper: Sequence[bool]) -> str:
    return "".join(a.upper() if up else a.lower() for a, up in zip(text, [*upper, *[True] * 40], strict=False))


_BASE: Final = st.sampled_from(
    (0, LISTED_MS, START_MS, START_MS - DAY_MS, START_MS // DAY_MS * DAY_MS, START_MS + DAY_MS, START_MS - 2 * DAY_MS)
)
_NEAR: Final = st.builds(
    lambda start, step, steps, off: max(0, start + step * steps + off),
    _BASE,
    st.sampled_from(STEPS_MS),
    st.integers(-700, 700),
    st.sampled_from((0, 0, 0, 1, -1)),
)
_TIME: Final = _mostly(
    st.one_of(_NEAR, st.integers(LISTED_MS - DAY_MS, START_MS + HOUR_MS)).map(str),
    st.sampled_from(
        ("0", "-0", "00", "1", "-1", str(2**53), str(2**53 + 1), str(2**63), "9" * 30, "", "x", "1.5", "1e3", " 5",
         "5 ", "+5", "٣", "NaN", "0x10", "1_0", "2026-11-21", "null", "1795235400000.0", "１")
    ),
)  # fmt: skip
_SYMBOL: Final = _mostly(
    st.builds(
        _mixed_case, st.sampled_from(SYMBOLS), st.one_of(st.just([]), st.just([False] * 40), st.lists(st.booleans()))
    ),
    st.sampled_from(
        ("NOSUCHUSDT", "", " NEW1120USDT", "NEW1120USDT\n", "NEW1120USDT\x00", "币安", "\ufffd", "*", "A" * 99, "ß")
    ),
)
_INTERVAL: Final = _mostly(
    st.sampled_from(oracle.INTERVALS),
    st.sampled_from(("1s", "1H", "1mo", "60", "1m ", "", "0m", "١m", "1D", "2d", "1Min")),
)
_LIMIT: Final = _mostly(
    st.one_of(st.sampled_from((1, 2, 3, 10, 99, 100, 499, 500, 501, 1000, 1499, 1500)), st.integers(1, 1500)).map(str),
    st.sampled_from(("1501", "0", "-1", "007", "", "x", "1.0", "1e2", " 1", "+1", "٣", "9" * 30)),
)
_TRUTH: Final = _mostly(
    st.sampled_from(("true", "True", "1", "false", "FALSE", "0", "false")), st.sampled_from(("", "maybe", "2"))
)
_UNKNOWN: Final = st.sampled_from(
    (("timeZone", "0"), ("endTIme", "5"), ("_", "1"), ("_", "2"), ("", ""), ("", "x"), ("Symbol", "X"),
     ("recvWindow", ""), ("ALLOW_PARTIAL", "maybe"))
)  # fmt: skip


_HEX: Final = re.compile("%[0-9A-F]{2}")


def _written(text: str, style: int) -> bytes:
    """Percent-encode `text` in one of the styles that clients use in URLs."""
    if style == 0:
        return quote(text, safe="").encode()
    if style == 1:
        return quote(text, safe=":+!*'(),~").replace("+", "%2B").replace("%20", "+").encode()
    if style == 2:
        return b"".join(b"%%%02x" % code for code in text.encode())
    return _HEX.sub(lambda code: code[0].lower(), quote(text, safe="")).encode()


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Any combination of parameters; most symbols and intervals are valid, so that many requests pass the checks."""
    pairs: list[Pair] = []
    for name, values, percent in (
        ("symbol", _SYMBOL, 98), ("interval", _INTERVAL, 98), ("startTime", _TIME, 50), ("endTime", _TIME, 50),
        ("limit", _LIMIT, 50), ("only_final", _TRUTH, 50), ("allow_partial", _TRUTH, 20),
    ):  # fmt: skip
        if draw(st.integers(0, 99)) < percent:
            pairs.append((name, draw(values)))
    pairs += draw(st.lists(_UNKNOWN, max_size=2)) if draw(st.booleans()) else []
    if pairs and draw(st.integers(0, 49)) == 49:
        pairs.append(draw(st.sampled_from(pairs)))
    pairs = draw(st.permutations(pairs))
    parts = []
    for name, value in pairs:
        styles = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        written = _written(value, styles[1])
        if value == "\ufffd":
            written = draw(st.sampled_from((b"%FF", b"%e5%b8", b"%C0%80", b"\xff")))
        bare = value == "" and draw(st.booleans())
        parts.append(_written(name, 2 if styles[0] == 2 else 0) + (b"" if bare else b"=" + written))
    raw = b"&".join(parts)
    if draw(st.integers(0, 19)) == 19:
        raw = b"&" + raw + b"&&"
    return Question(_as_read(pairs, raw), raw)


def _as_read(pairs: Sequence[Pair], raw: bytes) -> tuple[Pair, ...]:
    """The parameters as a server decodes `raw`; a value that is not UTF-8 becomes a text that is no symbol."""
    return tuple((name, "no utf-8" if value == "\ufffd" else value) for name, value in pairs) if raw else ()


async def ask_windows(folder: Path, cases: int, seed: int) -> Counter[str]:
    """Send `cases` requests and return the number of each kind of answer.

    Raises AssertionError for the first wrong answer.
    """
    counts: Counter[str] = Counter()
    for number in range(-(-cases // ROUND)):
        here = folder / str(number)
        await asyncio.to_thread(here.mkdir)
        counts += await _ask_round(here, min(ROUND, cases - number * ROUND), seed + number)
    return counts


async def _ask_round(folder: Path, cases: int, seed: int) -> Counter[str]:
    async with world(folder, symbols=1, weight_limit=100_000_000) as here:
        here.sandbox.exchange.universe.list_symbol(CHINESE, LISTED_MS)
        async with here.node(
            backfill_days=3, weight_per_minute=100_000, auto_sync_symbols=False, symbols=",".join(WISHED),
            intervals=",".join(oracle.INTERVALS),
        ) as watched:  # fmt: skip
            await watched.until_whole()
            now_ms = here.clock.now_ms()
            await here.clock.sleep((_QUIET_S * 1_000 - now_ms) % MINUTE_MS / 1_000)
            here.clock.hold()
            truths = _truths(here)
            await _frames_have_arrived(watched, truths)
            counts: Counter[str] = Counter()
            loop = asyncio.get_running_loop()

            def judge(question: Question) -> None:
                asking = judged(watched.node.app, here.sandbox.app, question, truths, counts)
                asyncio.run_coroutine_threadsafe(asking, loop).result()

            await asyncio.to_thread(_run, judge, cases, seed)
            return counts


def _run(judge: Any, cases: int, seed: int) -> None:
    @seeded(seed)
    @settings(
        max_examples=cases,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(questions())
    def ask(question: Question) -> None:
        judge(question)

    ask()


async def judged(
    node: ASGIApp, sandbox: ASGIApp, question: Question, truths: dict[tuple[str, str], Truth], counts: Counter[str]
) -> None:
    expected = oracle.understood(question.pairs, SYMBOLS)
    mine = await asked_of(node, question.raw)
    counts[f"node {expected if isinstance(expected, int) else 200}"] += 1
    assert mine == _answer(expected, truths, mine), (
        f"node, {question}: expected {expected}, got {mine[0]} {mine[1]!r:.200}"
    )
    found = oracle.complaints(question.pairs, SYMBOLS)
    if found is None:
        return
    theirs = await asked_of(sandbox, question.raw)
    if found:
        counts["sandbox 400"] += 1
        assert theirs[0] == 400, f"sandbox, {question}: {theirs[0]}"
        assert orjson.loads(theirs[1])["code"] in found, f"sandbox, {question}: {theirs[1]!r:.200}, expected {found}"
        return
    counts["sandbox 200"] += 1
    wanted = oracle.understood([pair for pair in question.pairs if pair[0] in oracle.THEIRS], SYMBOLS)
    assert isinstance(wanted, Asked), f"{question} has no complaint and is not understood"
    assert theirs == _answer(wanted._replace(only_final=False), truths, theirs), (
        f"sandbox, {question}: {theirs[1]!r:.200}"
    )


def _answer(
    expected: Asked | int, truths: dict[tuple[str, str], Truth], given_: tuple[int, bytes]
) -> tuple[int, bytes]:
    if isinstance(expected, Asked):
        return 200, oracle.window(truths[expected.symbol, expected.interval], expected)
    code = orjson.loads(given_[1]).get("code") if given_[0] == 400 else None
    return (400, given_[1]) if code == expected else (400, b"%d" % expected)


async def asked_of(app: ASGIApp, raw: bytes) -> tuple[int, bytes]:
    """Status and body of a klines request with this query string."""
    return await get(app, "/fapi/v1/klines", raw)


def _truths(here: World) -> dict[tuple[str, str], Truth]:
    """By symbol and interval: all klines as the exchange prints them now."""
    exchange, now_ms = here.sandbox.exchange, here.clock.now_ms()
    found = {}
    for symbol in SYMBOLS:
        item = exchange.universe.find(symbol, now_ms)
        assert item is not None, f"{symbol} is not listed"
        for interval in oracle.INTERVALS:
            closed = exchange.closed_rows(item, interval, 0, now_ms, now_ms)
            live = exchange.window(item, interval, None, None, 1, now_ms)
            rows = [Row(int(row[0]), orjson.dumps(row)) for row in (*closed, *live)]
            found[symbol, interval] = Truth(rows[:-1], rows[-1])
    return found


async def _frames_have_arrived(watched: Watched, truths: dict[tuple[str, str], Truth]) -> None:
    """With the clock stopped, wait until the frames on their way have arrived, so that klines in progress are equal."""
    async with asyncio.timeout(PATIENCE_S):
        for symbol in WISHED:
            for interval in oracle.INTERVALS:
                live = truths[symbol, interval].live
                assert live is not None
                raw = quote(symbol).join(("symbol=", f"&interval={interval}&limit=1&only_final=0")).encode()
                while await asked_of(watched.node.app, raw) != (200, b"[" + live.text + b"]"):
                    await watched.node.parts.clock.sleep(1)
