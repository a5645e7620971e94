import pytest

from app.binance import rest_rows
from app.domain.interval import INTERVALS, M1
from app.domain.kline import BadKline
from app.domain.series import Series
from app.kinds.klines import KLINES
from app.kinds.price_klines import INDEX, MARK, PREMIUM, PRICES
from app.kinds.registry import KINDS, held_beside, named, series_of, spelt

NEGATIVE = (
    b'[[1795219200000,"-0.00012345","0.00000000","-0.00054321","-0.00010000","0",1795219259999,"0",60,"0","0","0"]]'
)


def test_a_series_is_named_as_the_streams_name_it() -> None:
    assert Series(MARK, "BTCUSDT", M1).name == "BTCUSDT@markPrice"
    assert named("BTCUSDT@markPrice", M1) == Series(MARK, "BTCUSDT", M1)
    assert named("BTCUSDT", M1) == Series(KLINES, "BTCUSDT", M1)
    assert str(Series(PREMIUM, "币安人生USDT", M1)) == "币安人生USDT@premiumIndex 1m"
    with pytest.raises(KeyError):
        named("BTCUSDT@aggTrade", M1)


def test_klines_of_prices_are_held_of_symbols_and_pairs() -> None:
    symbols = ("BTCUSDT", "BTCUSDT_261225", "ETHUSDT")
    assert held_beside(("index", "mark"), symbols) == {INDEX: ("BTCUSDT", "ETHUSDT"), MARK: symbols}
    assert held_beside((), symbols) == {}


def test_an_index_belongs_to_the_pair_of_a_dated_contract() -> None:
    assert INDEX.whose("BTCUSDT_261225") == "BTCUSDT"
    assert MARK.whose("BTCUSDT_261225") == "BTCUSDT_261225"


def test_no_client_meets_price_klines_by_a_symbol() -> None:
    for kind in PRICES.values():
        name = Series(kind, "BTCUSDT", M1).name
        assert name.upper() != name, "a client's symbol is brought to upper case before it is looked up"


def test_only_the_premium_may_be_negative() -> None:
    (kline,) = PREMIUM.rest.decode(NEGATIVE, M1.grid, "BTCUSDT")
    assert rest_rows.join([PREMIUM.encode(kline, 1795219259999)]) == NEGATIVE
    for kind in (KLINES, MARK, INDEX):
        with pytest.raises(BadKline, match="not plain decimals"):
            kind.rest.decode(NEGATIVE, M1.grid, "BTCUSDT")
    with pytest.raises(BadKline, match="not plain decimals"):
        PREMIUM.rest.decode(NEGATIVE.replace(b'"0",60', b'"-1",60'), M1.grid, "BTCUSDT")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("btcusdt", "BTCUSDT"),
        ("btcusdt@markPrice", "BTCUSDT@markPrice"),
        ("BTCUSDT_261225@indexPrice", "BTCUSDT_261225@indexPrice"),
        ("BTCUSDT@markprice", None),
        ("BTCUSDT@aggTrade", None),
        ("BTCUSDT@", None),
    ],
)
def test_a_series_is_named_by_a_user_with_its_symbol_in_any_case(text: str, name: str | None) -> None:
    assert spelt(text) == name


def test_every_series_of_a_symbol_is_found_by_its_name() -> None:
    found = list(series_of("BTCUSDT_261225"))
    assert len(set(found)) == sum(len(kind.intervals or INTERVALS) for kind in KINDS.values())
    for series in found:
        assert named(series.name, series.interval) == series
