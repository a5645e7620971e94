"""Whether what was collected is what the sandbox says really happened."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx

from infra.net.tls import trusting_nobody
from tests.system.collected import Book, Check, Collected, Lost, Source, spans_missing

ROWS_MAX: Final = 20_000  # of one answer of the sandbox
LEVELS_MAX: Final = 5_000
LEVELS_MIN: Final = 300  # every book here is deeper on both sides
INTERESTS_CHECKED: Final = 40  # of one instrument
MINUTE_MS: Final = 60_000
CONFIRMED: Final = "confirmed"
EIGHTH: Final = Decimal("0.125")
COIN_UNIT: Final = Decimal("1e-8")
"""To which the sandbox rounds coins down: 0.50910053…9996 is 0.50910054 to the collector's twelve decimals."""
Json = dict[str, Any]


@dataclass
class Verdict:
    """What was compared and what is wrong; nothing is wrong with an empty `faults`."""

    trades: int = 0
    lost: int = 0
    wrong: int = 0
    doubled: int = 0
    """Trades that a reader has twice, or finds out of order where no gap was announced."""
    in_gaps: int = 0
    """Trades that did not come, inside of confirmed gaps."""
    books: int = 0
    book_faults: int = 0
    klines: int = 0
    fundings: int = 0
    interests: int = 0
    faults: list[str] = field(default_factory=list)

    def blame(self, fault: str) -> None:
        """Note a fault."""
        self.faults.append(fault)


class Truth:
    """Asks the sandbox on a port."""

    def __init__(self, port: int) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120, verify=trusting_nobody()
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def inject(self, fault: Mapping[str, object]) -> None:
        """Let the sandbox have a fault."""
        (await self._client.post("/sandbox/faults", json=dict(fault))).raise_for_status()

    async def clear(self) -> None:
        """End all faults."""
        (await self._client.delete("/sandbox/faults")).raise_for_status()

    async def trades(self, source: Source, first: int, last: int) -> list[Json]:
        """The true trades with these numbers, at most ROWS_MAX."""
        what = "aggregates" if source.exchange == "binance" else "trades"
        rows: list[Json] = await self._ask(source, what, first=first, last=last)
        return rows

    async def compare(self, collected: Collected) -> Verdict:
        """Compare everything that was read."""
        verdict = Verdict(faults=list(collected.differing))
        for source, rows in collected.trades.items():
            await self._trades(source, rows, collected.lost(source, "trade", CONFIRMED), verdict)
        for source, book in collected.books.items():
            await self._book(source, book, verdict)
        for source, klines in collected.klines.items():
            await self._klines(source, klines, collected.lost(source, "kline", CONFIRMED), verdict)
        for source, paid in collected.fundings.items():
            await self._fundings(source, paid, verdict)
        for source, interests in collected.interests.items():
            await self._interests(source, interests, verdict)
        for source in collected.gaps:
            for fault in _still_open(source, collected):
                verdict.blame(fault)
        for source in collected.trades:
            for fault in (*_doubled(source, collected), *_out_of_order(source, collected)):
                verdict.doubled += 1
                verdict.blame(fault)
        return verdict

    async def _ask(self, source: Source, what: str, **params: object) -> Any:
        query = {
            "venue": source.exchange,
            "symbol": source.name,
            "what": what,
            **{k: str(v) for k, v in params.items()},
        }
        answer = await self._client.get("/sandbox/truth", params=query)
        assert answer.status_code == 200, f"{query}: {answer.text[:300]}"
        return answer.json()

    async def _trades(self, source: Source, rows: dict[int, Json], confirmed: list[Lost], verdict: Verdict) -> None:
        first, last = min(rows), max(rows)
        verdict.trades += len(rows)
        for begin in range(first, last + 1, ROWS_MAX):
            end = min(begin + ROWS_MAX - 1, last)
            truth = {row["number"]: row for row in await self.trades(source, begin, end)}
            for number in range(begin, end + 1):
                held, true = rows.get(number), truth.get(number)
                if held is None:
                    if any(_contains(gap, number) for gap in confirmed):
                        verdict.in_gaps += 1
                    else:
                        verdict.lost += 1
                        verdict.blame(f"{source} trade {number} is lost in silence")
                elif true is None or not _is_equal(held, true):
                    verdict.wrong += 1
                    verdict.blame(f"{source} trade {number} is {held}, and was {true}")

    async def _book(self, source: Source, book: Book, verdict: Verdict) -> None:
        for check in book.checks:
            truth = await self._ask(source, "book", sequence=check.native, levels=LEVELS_MAX)
            verdict.books += 1
            if fault := _book_fault(check, truth):
                verdict.book_faults += 1
                verdict.blame(f"{source} book {check.native}: {fault}")

    async def _klines(self, source: Source, klines: dict[int, Json], confirmed: list[Lost], verdict: Verdict) -> None:
        verdict.klines += len(klines)
        minutes = [open_ms // MINUTE_MS for open_ms in klines]
        for begin, end in spans_missing(minutes):
            for minute in range(begin, end):
                if not any(_contains(gap, minute) for gap in confirmed):
                    verdict.blame(f"{source} kline of minute {minute} is lost in silence")
        if source.exchange != "binance":
            return
        query = {"symbol": source.name, "startTime": str(min(klines)), "endTime": str(max(klines))}
        for row in (await self._client.get("/sandbox/truth", params=query)).json():
            held = klines.get(row[0])
            if held is not None and list(held.values()) != row[1:6]:
                verdict.blame(f"{source} kline {row[0]} is {held}, and was {row[1:6]}")

    async def _fundings(self, source: Source, paid: dict[int, str], verdict: Verdict) -> None:
        first_ms, last_ms = min(paid), max(paid)
        rows = await self._ask(source, "fundings", startTime=first_ms - 500, endTime=last_ms)
        part = EIGHTH if source.exchange == "deribit" else 1  # the sandbox tells Deribit's rate for eight hours
        truth = {row["time_ms"]: Decimal(row["rate"]) * part for row in rows}
        held = {round(time_ms, -4): Decimal(rate) for time_ms, rate in paid.items()}
        verdict.fundings += len(truth)
        if held != truth:
            verdict.blame(f"{source} fundings differ at {sorted(held.items() ^ truth.items())[:4]}")

    async def _interests(self, source: Source, interests: list[tuple[int, str]], verdict: Verdict) -> None:
        for time_ms, amount in interests[:: max(1, len(interests) // INTERESTS_CHECKED)]:
            truth = await self._ask(source, "openInterest", time=time_ms)
            verdict.interests += 1
            if Decimal(truth["size"]) != Decimal(amount):
                verdict.blame(f"{source} open interest at {time_ms} is {amount}, and was {truth['size']}")


def _contains(gap: Lost, number: int) -> bool:
    return gap.first is not None and gap.end is not None and gap.first <= number < gap.end


def _is_equal(held: Json, true: Json) -> bool:
    return (
        Decimal(held["price"]) == Decimal(true["price"])
        and Decimal(held["amount"]) == Decimal(true["size"])
        and abs(Decimal(held["quantity"]) - Decimal(true["coins"])) <= COIN_UNIT
        and held["time_ms"] == true["time_ms"]
        and held["is_buyer_maker"] == (true["side"] == "sell")
    )


def _book_fault(check: Check, truth: Json) -> str:
    """What differs between a book and the true one, as far from the best price as both are known.

    The sandbox tells of a thousand ticks a side, and sends no deletes for those that the price has left behind.
    """
    for name, held in (("bids", check.bids), ("asks", check.asks)):
        true = {Decimal(price): Decimal(size) for price, size in truth[name]}
        if min(len(held), len(true)) < LEVELS_MIN:
            return f"{len(held)} {name} are held, {len(true)} are told"
        if name == "bids":
            worst = max(min(held), min(true))
            differing = {level for level in held.items() ^ true.items() if level[0] >= worst}
        else:
            worst = min(max(held), max(true))
            differing = {level for level in held.items() ^ true.items() if level[0] <= worst}
        if differing:
            return f"{len(differing)} of {len(held)} {name} differ: {sorted(differing)[:4]}"
    return ""


def _doubled(source: Source, collected: Collected) -> Iterator[str]:
    """The trades that a reader has under two sequences."""
    sequences: dict[str, int] = {}
    for sequence, row in collected.trades[source].items():
        if sequences.setdefault(row["trade_id"], sequence) != sequence:
            yield f"{source} trade {row['trade_id']} is numbered {sequences[row['trade_id']]} and {sequence}"


def _out_of_order(source: Source, collected: Collected) -> Iterator[str]:
    """The trades that came late and are in no gap that was announced."""
    gaps = [gap for gap in collected.gaps[source].values() if gap.type == "trade"]
    for sequence in collected.behind[source]:
        if not any(_contains(gap, sequence) for gap in gaps):
            yield f"{source} trade {sequence} came behind later ones, and no gap was announced"


def _still_open(source: Source, collected: Collected) -> Iterator[str]:
    """The gaps that were opened, and neither filled nor confirmed."""
    for data_type in ("trade", "kline"):
        if data_type == "trade":
            stored = set(collected.trades.get(source, ()))
        else:
            stored = {open_ms // MINUTE_MS for open_ms in collected.klines.get(source, ())}
        confirmed = collected.lost(source, data_type, CONFIRMED)
        for gap in collected.lost(source, data_type, "open"):
            if gap.first is None or gap.end is None:
                continue
            left = [
                number
                for number in range(gap.first, gap.end)
                if number not in stored and not any(_contains(each, number) for each in confirmed)
            ]
            if left:
                yield f"{source} {data_type}: the gap [{gap.first}, {gap.end}) {gap.reason} stays open at {left[:3]}"
    for data_type in sorted({gap.type for gap in collected.gaps[source].values()} - {"trade", "kline"}):
        confirmed = collected.lost(source, data_type, CONFIRMED)
        for gap in collected.lost(source, data_type, "open"):
            if not any(each.from_ms <= gap.from_ms <= each.to_ms for each in confirmed):
                yield f"{source} {data_type}: the gap at {gap.from_ms}–{gap.to_ms} {gap.reason} stays open"
