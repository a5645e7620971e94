from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app.domain.interval import INTERVALS, MINUTE_MS, FixedGrid
from app.domain.kline import Kline
from app.domain.rollup import Bucket, roll_up

START_MS = 1_700_000_100_000 // 300_000 * 300_000
PRICES = st.integers(1, 10**12).map(lambda units: f"{units // 10**7}.{units % 10**7:07d}")
AMOUNTS = st.integers(1, 10**15).map(lambda units: f"{units // 1000}.{units % 1000:03d}")


@st.composite
def minutes(draw: st.DrawFn) -> list[Kline]:
    made = []
    close = draw(PRICES)
    for number in range(draw(st.integers(1, 30))):
        open_ms = START_MS + number * MINUTE_MS
        if draw(st.booleans()):
            made.append(Kline(open_ms, close, close, close, close, "0", "0", 0, "0", "0"))
            continue
        prices = [draw(PRICES) for _ in range(4)]
        high, low = max(prices, key=Decimal), min(prices, key=Decimal)
        close = prices[1]
        taker = draw(st.one_of(st.just("0"), AMOUNTS))
        made.append(
            Kline(
                open_ms,
                prices[0],
                high,
                low,
                close,
                draw(AMOUNTS),
                draw(AMOUNTS),
                draw(st.integers(1, 999)),
                taker,
                taker,
            )
        )
    return made


def brute(parts: list[Kline]) -> list[object]:
    """The roll-up rule of binance-facts section 7, written as directly as possible and without the code under test."""
    traded = [part for part in parts if part.trades] or parts
    sums = [
        sum(int(getattr(part, name).replace(".", "")) for part in parts)  # amounts have three decimals, zeros have none
        for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
    ]
    return [
        traded[0].open,
        max((part.high for part in traded), key=Decimal),
        min((part.low for part in traded), key=Decimal),
        traded[-1].close,
        *(f"{total // 1000}.{total % 1000:03d}" if total else "0" for total in sums),
        sum(part.trades for part in parts),
    ]


@given(minutes(), st.sampled_from([3, 5, 15]))
def test_roll_up_follows_the_proven_rule_exactly(parts: list[Kline], size: int) -> None:
    grid = FixedGrid(size * MINUTE_MS)
    made = roll_up(parts, grid)
    buckets: dict[int, list[Kline]] = {}
    for part in parts:
        buckets.setdefault(grid.floor(part.open_ms), []).append(part)
    assert [kline.open_ms for kline in made] == list(buckets)
    for kline in made:
        k = [kline.open, kline.high, kline.low, kline.close, kline.volume, kline.quote_volume]
        assert [*k, kline.taker_buy_volume, kline.taker_buy_quote_volume, kline.trades] == brute(buckets[kline.open_ms])


@given(minutes())
def test_rolling_up_in_two_steps_gives_the_same_as_in_one(parts: list[Kline]) -> None:
    five = roll_up(parts, INTERVALS["5m"].grid)
    assert roll_up(five, INTERVALS["15m"].grid) == roll_up(parts, INTERVALS["15m"].grid)


@given(minutes())
def test_a_bucket_can_be_read_at_any_moment_and_copied(parts: list[Kline]) -> None:
    whole = FixedGrid(10**9)
    bucket = Bucket(whole.floor(parts[0].open_ms))
    for number, part in enumerate(parts, start=1):
        peek = bucket.copy()
        peek.add(part)
        bucket.add(part)
        assert peek.kline() == bucket.kline() == roll_up(parts[:number], whole)[0]


def test_a_bucket_that_begins_with_an_empty_part_opens_with_the_first_trade() -> None:
    empty = Kline(0, "5", "5", "5", "5", "0", "0", 0, "0", "0")
    trade = Kline(60_000, "7", "8", "6", "7", "1", "7", 2, "1", "7")
    assert roll_up([empty, trade], FixedGrid(300_000)) == [Kline(0, "7", "8", "6", "7", "1", "7", 2, "1", "7")]
    assert roll_up([empty], FixedGrid(300_000)) == [empty]


def test_sums_never_round() -> None:
    huge = Kline(0, "1", "1", "1", "1", "9" * 30 + ".123", "0.0000001", 1, "0", "0")
    tiny = Kline(60_000, "1", "1", "1", "1", "0.001", "9" * 30, 1, "0", "0")
    (made,) = roll_up([huge, tiny], FixedGrid(300_000))
    assert made.volume == "9" * 30 + ".124"
    assert made.quote_volume == "9" * 30 + ".0000001"
