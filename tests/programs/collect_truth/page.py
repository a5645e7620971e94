"""The figures of a run, for the page and for programs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tests.programs.bench.figures import Figure
from tests.programs.collect_truth.stage import Stage
from tests.system.collected import Collected, Lag
from tests.system.exchange_truth import Verdict

RSS_BYTES_MAX: Final = 400 * 1024**2
"""What the collector may need with everything it keeps in memory while NATS is away."""
_MB: Final = 1024**2


def figures_of(stage: Stage, collected: Collected, verdict: Verdict) -> list[Figure]:
    """All figures; those of the part "kept" must be 0."""
    return [*_kept(verdict), *_collected(collected, verdict), *_speed(stage, collected), *_memory(stage)]


def _kept(verdict: Verdict) -> Iterator[Figure]:
    for name, number in (
        ("lost in silence", verdict.lost),
        ("doubled or out of order", verdict.doubled),
        ("wrong trades", verdict.wrong),
        ("wrong books", verdict.book_faults),
        ("faults in all", len(verdict.faults)),
    ):
        yield Figure("kept", name, "number", number, floor=0.0, is_cost=True)


def _collected(collected: Collected, verdict: Verdict) -> Iterator[Figure]:
    for name, number in sorted(collected.records.items()):
        yield Figure("records", name, "number", number)
    note = "within a message of other borders: the reader's rule drops them"
    yield Figure("records", "trades that came again", "number", collected.repeated, note=note)
    for name, number in (
        ("trades", verdict.trades),
        ("books", verdict.books),
        ("final klines", verdict.klines),
        ("paid rates", verdict.fundings),
        ("open interest", verdict.interests),
    ):
        yield Figure("compared", name, "number", number)
    gaps = Counter(
        (each.type, each.reason, each.state) for of_source in collected.gaps.values() for each in of_source.values()
    )
    for (data_type, reason, state), number in sorted(gaps.items()):
        yield Figure("gaps", f"{data_type} {reason} {state}", "number", number)
    yield Figure("gaps", "trades in confirmed gaps", "number", verdict.in_gaps)


def _speed(stage: Stage, collected: Collected) -> Iterator[Figure]:
    calm = [lag for lag in collected.lags if not _is_disturbed(stage, lag)]
    for name, values in (
        ("exchange → stored", sorted(lag.after_exchange_ms for lag in calm)),
        ("received → stored", sorted(lag.after_receipt_ms for lag in calm)),
    ):
        for share in (50, 99):
            note = "with trades that were fetched later, without times of outages"
            yield Figure("lag", f"{name} p{share}", "ms", _quantile(values, share / 100), note=note)
    for outage in stage.watched.outages:
        note = f"{outage.spilled_bytes / _MB:.2f} MB were on disk"
        yield Figure("outages", f"{outage.away_s:.1f} s without NATS: caught up", "s", outage.caught_up_s, note=note)


def _memory(stage: Stage) -> Iterator[Figure]:
    rss = stage.watched.rss_bytes
    yield Figure("memory", "collector at first", "MB", rss[min(10, len(rss) - 1)] / _MB)
    yield Figure("memory", "collector at last", "MB", rss[-1] / _MB)
    yield Figure("memory", "collector at most", "MB", max(rss) / _MB, floor=RSS_BYTES_MAX / _MB, is_cost=True)
    for name, number in sorted(stage.watched.mishaps.items()):
        yield Figure("mishaps", name, "number", number)


def _is_disturbed(stage: Stage, lag: Lag) -> bool:
    received_ms = lag.stored_ms - lag.after_receipt_ms
    return any(begin <= lag.stored_ms and received_ms <= end for begin, end in stage.watched.disturbed_ms)


def _quantile(values: Sequence[int], share: float) -> float:
    return float(values[min(len(values) - 1, int(share * len(values)))]) if values else 0.0
