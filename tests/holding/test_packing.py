from app.domain.interval import M1, MINUTE_MS
from app.domain.series import Series
from app.holding.encoded_rows import EncodedRows
from app.holding.packing import SLICE, TAILS_A_SECOND, keep_packed
from app.holding.tail import PLAIN_TENTHS, ROW_BYTES, Tail
from app.kinds.klines import KLINES
from tests.fakes import NOW_MS, ManualClock, running, turn


async def settled() -> None:
    """Let the packing task run until it sleeps."""
    for _ in range(2 * len(NAMES)):
        await turn()


NAMES = [Series(KLINES, f"S{number}", M1) for number in range(300)]
ROWS = 100


def filled() -> Tail:
    """Tails of 300 series, 120 of them above the share of plain rows."""
    tail = Tail(ROW_BYTES * ROWS * len(NAMES) * 2, lambda: True)
    for each in NAMES:
        rows = EncodedRows([b"[%013d]" % number + b" " * (ROW_BYTES - 16) for number in range(ROWS)])
        tail.seed(each, M1.grid, rows, NOW_MS // MINUTE_MS * MINUTE_MS, tail.version(each))
    return tail


def packed(tail: Tail) -> int:
    return sum(made is not None and not made.rows.plain_bytes for made in map(tail.get, NAMES))


async def test_tails_above_the_share_are_compressed_a_few_at_a_time() -> None:
    clock, tail = ManualClock(NOW_MS), filled()
    assert not packed(tail), "not by those who read"
    async with running(lambda: keep_packed(clock, tail)):
        await clock.advance(1.0, settled)
        assert packed(tail) == TAILS_A_SECOND, "what a second allows"
        await clock.advance(0.05, settled)
        assert packed(tail) == TAILS_A_SECOND + SLICE
        await clock.advance(5.0, settled)
    assert packed(tail) == len(NAMES) - len(NAMES) * 2 * PLAIN_TENTHS // 10, "and no more than that"
