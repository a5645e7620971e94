"""Measures the collector and its peers in one process by turns; runs under the peers' interpreter.

    python -m tests.programs.bench.collector_race <file of tapes> <rounds> <NATS address>

It prints a JSON object: for each case the rounds of everybody who took part.
"""

import asyncio
import gc
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from app.domain.records import DataType
from tests.programs.bench import collector_ours as ours
from tests.programs.bench import collector_peers as peers

LATENCY_PER_S: Final = 1_000.0
"""Trades a second of the hottest feed in a busy hour."""


class Round(msgspec.Struct):
    """So many trades or frames, and the seconds of processor time and of the clock that they took."""

    count: int
    cpu_s: float
    wall_s: float = 0.0


class Result(msgspec.Struct):
    """What a race found: rounds by case and runner, the times from frame to acknowledgement in ms, and who ran."""

    versions: dict[str, str]
    cases: dict[str, dict[str, list[Round]]]
    latencies_ms: list[float]


async def race(tapes: list[ours.Tape], rounds: int, url: str) -> Result:
    """Measure every tape, all runners of a round before the next round."""
    found = Result(peers.versions(), {}, [])
    for tape in tapes:
        reader = ours.Reader(tape)
        results = found.cases[tape.case.name] = {}

        def note(runner: str, count: int, cpu_s: float, wall_s: float = 0.0, results: Any = results) -> None:
            results.setdefault(runner, []).append(Round(count, cpu_s, wall_s))

        for _ in range(rounds):
            gc.collect()
            gc.freeze()  # what the libraries keep would be looked through again and again in everybody's time
            note("decode", *reader.decode())
            note("session", *reader.follow())
            if "cryptofeed" in found.versions:
                note("cryptofeed", *await peers.Cryptofeed(reader).follow())
            if "ccxt" in found.versions:
                note("ccxt", *peers.Ccxt(reader).follow())
        if url and tape.case.data_type is DataType.TRADE:
            await _through_nats(reader, rounds, url, found, note)
    if url:
        with tempfile.TemporaryDirectory() as folder:
            found.latencies_ms = await ours.latencies(ours.Reader(tapes[0]), url, Path(folder), LATENCY_PER_S)
    return found


async def _through_nats(reader: ours.Reader, rounds: int, url: str, found: Result, note: Any) -> None:
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            mine = await ours.publish(reader, url, Path(folder))
        note("stored", mine.trades, mine.cpu_s, mine.wall_s)
        if "cryptofeed" in found.versions:
            theirs = await peers.publish(reader, url)
            note("cryptofeed stored", theirs.trades, theirs.cpu_s, theirs.wall_s)


def main(tapes: str, rounds: str, url: str = "") -> None:
    """Race over the tapes of a file and print the result."""
    read = msgspec.json.decode(Path(tapes).read_bytes(), type=list[ours.Tape])
    result = asyncio.run(race(read, int(rounds), url))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
