import pytest

from app.binance import rest_rows
from app.binance.families import INDEX, MARK, PREMIUM, PRICES, TRADES, parted
from app.domain.interval import M1
from app.domain.kline import BadKline
from app.ports.series import Series

NEGATIVE = (
    b'[[1795219200000,"-0.00012345","0.00000000","-0.00054321","-0.00010000","0",1795219259999,"0",60,"0","0","0"]]'
)


def test_a_series_names_its_family_as_the_streams_do() -> None:
    assert MARK.named("BTCUSDT") == "BTCUSDT@markPrice"
    assert parted("BTCUSDT@markPrice") == ("BTCUSDT", MARK)
    assert parted("BTCUSDT") == ("BTCUSDT", TRADES)
    series = Series(PREMIUM.named("币安人生USDT"), M1)
    assert (series.listed, series.is_of_trades) == ("币安人生USDT", False)
    assert Series("BTCUSDT", M1).is_of_trades


def test_an_index_belongs_to_the_pair_of_a_dated_contract() -> None:
    assert INDEX.named("BTCUSDT_261225") == "BTCUSDT@indexPrice"
    assert MARK.named("BTCUSDT_261225") == "BTCUSDT_261225@markPrice"


def test_no_client_meets_a_family_by_a_symbol() -> None:
    for family in PRICES.values():
        name = family.named("BTCUSDT")
        assert name.upper() != name, "a client's symbol is brought to upper case before it is looked up"


def test_only_a_signed_family_may_be_negative() -> None:
    (kline,) = rest_rows.decode(NEGATIVE, M1.grid, is_signed=True)
    assert rest_rows.join([rest_rows.encode(kline, 1795219259999)]) == NEGATIVE
    with pytest.raises(BadKline, match="not plain decimals"):
        rest_rows.decode(NEGATIVE, M1.grid)
    with pytest.raises(BadKline, match="not plain decimals"):
        rest_rows.decode(NEGATIVE.replace(b'"0",60', b'"-1",60'), M1.grid, is_signed=True)
