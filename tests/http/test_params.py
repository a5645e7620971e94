"""An invalid query string gets Binance's own error; a valid one has the meaning that Binance gives it."""

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance.error_body import BinanceError
from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.http.params import PARAMETERS, TIME_MS_MAX, _pairs, kline_query
from app.kinds.klines import KLINES
from app.querying.answer import KlineQuery
from tests.http.fakes import FakeQuery

OK = "symbol=BTCUSDT&interval=1m"
DUPLICATE = (-1101, "Duplicate values for a parameter detected.")
SYMBOL = (-1121, "Invalid symbol.")
INTERVAL = (-1120, "Invalid interval.")
ORDER = (-1023, "Start time is greater than end time.")


def mandatory(name: str) -> tuple[int, str]:
    return -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def invalid(name: str) -> tuple[int, str]:
    return -1130, f"Data sent for parameter '{name}' is not valid."


def empty(name: str) -> tuple[int, str]:
    return -1105, f"Parameter '{name}' was empty."


def understood(query: str | bytes, *, only_final_default: bool = True) -> KlineQuery:
    raw = query if isinstance(query, bytes) else query.encode()
    return kline_query(raw, FakeQuery().symbol, only_final_default=only_final_default)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", mandatory("symbol")),
        ("interval=1m", mandatory("symbol")),
        ("symbol=&interval=1m", mandatory("symbol")),
        ("symbol&interval=1m", mandatory("symbol")),
        ("Symbol=BTCUSDT&interval=1m", mandatory("symbol")),
        ("symbol=BTCUSDT", mandatory("interval")),
        ("symbol=BTCUSDT&interval=", mandatory("interval")),
        ("symbol=NOPE", mandatory("interval")),
        ("symbol=NOPE&interval=1m", SYMBOL),
        ("symbol=BTCUSDT%20&interval=1m", SYMBOL),
        ("symbol=BTC%00USDT&interval=1m", SYMBOL),
        ("symbol=%ff%fe&interval=1m", SYMBOL),
        (b"symbol=\xff&interval=1m", SYMBOL),
        ("symbol=" + "A" * 4000 + "&interval=1m", SYMBOL),
        ("symbol=NOPE&interval=1s", SYMBOL),
        ("symbol=BTCUSDT&interval=1s", INTERVAL),
        ("symbol=BTCUSDT&interval=1H", INTERVAL),
        ("symbol=BTCUSDT&interval=1mo", INTERVAL),
        ("symbol=BTCUSDT&interval=60", INTERVAL),
        ("symbol=BTCUSDT&interval=1m%20", INTERVAL),
        (OK + "&limit=0", invalid("limit")),
        (OK + "&limit=-1", invalid("limit")),
        (OK + "&limit=1501", invalid("limit")),
        (OK + "&limit=" + "9" * 400, invalid("limit")),
        (OK + "&limit=abc", mandatory("limit")),
        (OK + "&limit=1.5", mandatory("limit")),
        (OK + "&limit=1e2", mandatory("limit")),
        (OK + "&limit=1_0", mandatory("limit")),
        (OK + "&limit=+5", mandatory("limit")),
        (OK + "&limit=%2B5", mandatory("limit")),
        (OK + "&limit=5%0A", mandatory("limit")),
        (OK + "&limit=%D9%A3", mandatory("limit")),
        (OK + "&limit=", empty("limit")),
        (OK + "&limit", empty("limit")),
        (OK + "&startTime=yesterday", mandatory("startTime")),
        (OK + "&startTime=", empty("startTime")),
        (OK + "&startTime=-1", invalid("startTime")),
        (OK + f"&startTime={2**53 + 1}", invalid("startTime")),
        (OK + "&endTime=2024-01-01", mandatory("endTime")),
        (OK + "&endTime=", empty("endTime")),
        (OK + "&endTime=99999999999999999999", invalid("endTime")),
        (OK + "&endTime=NaN", mandatory("endTime")),
        (OK + "&startTime=2&endTime=1", ORDER),
        (OK + f"&startTime={2**53}&endTime={2**53 - 1}", ORDER),
        (OK + "&only_final=maybe", invalid("only_final")),
        (OK + "&only_final=", empty("only_final")),
        (OK + "&symbol=BTCUSDT", DUPLICATE),
        (OK + "&limit=1&limit=1", DUPLICATE),
        (OK + "&limit=1&l%69mit=1", DUPLICATE),
        ("interval=1m&interval=1m", DUPLICATE),
        (OK + "&limit=0&startTime=x&endTime=", mandatory("startTime")),
        (OK + "&limit=0&startTime=2&endTime=1", invalid("limit")),
    ],
)
def test_a_wrong_query_gets_the_exchanges_error(query: str | bytes, error: tuple[int, str]) -> None:
    with pytest.raises(BinanceError) as refused:
        understood(query)
    assert (refused.value.status, refused.value.code, refused.value.msg) == (400, *error)


BTC_1M = Series(KLINES, "BTCUSDT", INTERVALS["1m"])


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        (OK, KlineQuery(BTC_1M, None, None, 500, True)),
        ("interval=1m&symbol=btcusdt", KlineQuery(BTC_1M, None, None, 500, True)),
        ("symbol=BTCUSDT&interval=1M", KlineQuery(Series(KLINES, "BTCUSDT", INTERVALS["1M"]), None, None, 500, True)),
        (OK + "&limit=1500", KlineQuery(BTC_1M, None, None, 1500, True)),
        (OK + "&limit=007", KlineQuery(BTC_1M, None, None, 7, True)),
        (OK + "&startTime=0&endTime=0", KlineQuery(BTC_1M, 0, 0, 500, True)),
        (OK + "&startTime=1700000000001", KlineQuery(BTC_1M, 1_700_000_000_001, None, 500, True)),
        (OK + f"&endTime={2**53 - 1}", KlineQuery(BTC_1M, None, TIME_MS_MAX, 500, True)),
        (OK + "&only_final=false", KlineQuery(BTC_1M, None, None, 500, False)),
        (OK + "&only_final=0", KlineQuery(BTC_1M, None, None, 500, False)),
        (OK + "&only_final=True", KlineQuery(BTC_1M, None, None, 500, True)),
        (OK + "&only_final=1", KlineQuery(BTC_1M, None, None, 500, True)),
        (OK + "&endTIme=x&timeZone=1&&=&_=1&_=2", KlineQuery(BTC_1M, None, None, 500, True)),
        (
            "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&interval=1m",
            KlineQuery(Series(KLINES, "币安人生USDT", INTERVALS["1m"]), None, None, 500, True),
        ),
        (
            "symbol=币安人生usdt&interval=1m",
            KlineQuery(Series(KLINES, "币安人生USDT", INTERVALS["1m"]), None, None, 500, True),
        ),
    ],
)
def test_a_right_query_is_understood(query: str, meaning: KlineQuery) -> None:
    assert understood(query) == meaning


@pytest.mark.parametrize("code", INTERVALS)
def test_all_fifteen_intervals_are_accepted(code: str) -> None:
    assert understood(f"symbol=BTCUSDT&interval={code}").interval.code == code


def test_only_final_falls_back_on_the_setting() -> None:
    assert understood(OK, only_final_default=False).only_final is False


_name = st.sampled_from([*PARAMETERS, "junk"])
_value = st.one_of(
    st.sampled_from(["", "BTCUSDT", "1m", "1", "true", "-1", "9" * 17, "%ff", "%", "+"]),
    st.integers().map(str),
    st.text(max_size=12),
)
_query = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.tuples(_name, _value), max_size=8).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "surrogatepass")
    ),
)


@given(_query)
def test_any_bytes_whatsoever_are_an_error_of_binance_or_a_query(raw: bytes) -> None:
    query: KlineQuery | BinanceError
    try:
        query = understood(raw)
    except BinanceError as refused:
        query = refused
    if isinstance(query, BinanceError):
        assert query.status == 400
        assert json.loads(query.body()) == {"code": query.code, "msg": query.msg}
    else:
        assert 1 <= query.limit <= 1500
        assert query.start_ms is None or 0 <= query.start_ms <= TIME_MS_MAX
        assert query.end_ms is None or (query.start_ms or 0) <= query.end_ms <= TIME_MS_MAX


_PARTS = st.sampled_from(
    [
        b"&",
        b"=",
        b";",
        b"?",
        b"/",
        b" ",
        b"\x00",
        b"\xff",
        b"%",
        b"%41",
        b"+",
        b"symbol",
        b"limit",
        b"1m",
        b"x",
        "é".encode(),
    ]
)


@given(st.lists(_PARTS, max_size=12).map(b"".join) | st.binary(max_size=40))
def test_what_is_not_encoded_is_read_as_the_library_reads_it(raw: bytes) -> None:
    assert [tuple(pair) for pair in _pairs(raw)] == parse_qsl(raw.decode(errors="replace"), keep_blank_values=True)
