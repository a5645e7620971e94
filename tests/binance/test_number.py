"""Numbers that the node prints in its own form are plain ASCII decimals; a body with any other number is garbage."""

from collections.abc import Callable

import pytest

from app.binance import agg_trades, archive_csv, book_ticker, marks, rest_rows, stream_event
from app.binance.agg_trades import BadTrades
from app.binance.book_ticker import BadBest
from app.binance.marks import BadMarks
from app.binance.number import CHARS_MAX, are_amounts
from app.domain.interval import M1
from app.domain.kline import BadKline, Precision

GARBAGE = [
    "１.5",
    "1.５",
    "١.5",
    "1.5\u2003",
    " 1.5",
    "1,5",
    "1.5\\n",
    "+1.5",
    "1_0.5",
    "Ⅻ",
    "½",
    "01.5",
    "1.",
    "NaN",
    "−1.5",
]
MARK = (
    '[{"symbol":"BTCUSDT","markPrice":"1.5","indexPrice":"1.5","estimatedSettlePrice":"1.5","lastFundingRate":"1.5",'
    '"interestRate":"1.5","nextFundingTime":1,"time":1}]'
)
MARK_EVENT = '[{"E":1,"s":"BTCUSDT","p":"1.5","i":"1.5","P":"1.5","r":"1.5","T":1}]'
TRADES = '[{"a":1,"p":"1.5","q":"1.5","nq":"1.5","f":1,"l":1,"T":1,"m":true}]'
BEST = '{"symbol":"BTCUSDT","bidPrice":"1.5","bidQty":"1.5","askPrice":"1.5","askQty":"1.5","time":1,"lastUpdateId":1}'
BEST_EVENT = '{"u":1,"T":1,"s":"BTCUSDT","b":"1.5","B":"1.5","a":"1.5","A":"1.5"}'
ROW = '[[60000,"1.5","1.5","1.5","1.5","1.5",119999,"1.5",1,"1.5","1.5","0"]]'
EVENT = (
    '{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":60000,"T":119999,"s":"BTCUSDT",'
    '"i":"1m","o":"1.5","c":"1.5","h":"1.5","l":"1.5","v":"1.5","n":1,"x":true,"q":"1.5","V":"1.5","Q":"1.5"}}}'
)
LINE = "60000,1.5,1.5,1.5,1.5,1.5,119999,1.5,1,1.5,1.5,0\n"


def _archive(body: bytes) -> object:
    return list(archive_csv.parse(body.decode(), M1.grid, Precision(1, 1)))


CASES: list[tuple[Callable[[bytes], object], str, type[Exception]]] = [
    (marks.decode, MARK, BadMarks),
    (marks.decode_updates, MARK_EVENT, BadMarks),
    (agg_trades.decode, TRADES, BadTrades),
    (agg_trades.decode_event, TRADES[1:-1], BadTrades),
    (book_ticker.decode, BEST, BadBest),
    (book_ticker.decode_event, BEST_EVENT, BadBest),
    (lambda body: rest_rows.decode(body, M1.grid), ROW, BadKline),
    (stream_event.decode, EVENT, BadKline),
    (_archive, LINE, BadKline),
]


@pytest.mark.parametrize(("decode", "body", "error"), CASES)
def test_each_number_must_be_a_plain_decimal(
    decode: Callable[[bytes], object], body: str, error: type[Exception]
) -> None:
    assert decode(body.encode())
    for garbage in GARBAGE:
        for number in range(1, body.count("1.5") + 1):
            before = "1.5".join(body.split("1.5")[:number])
            after = "1.5".join(body.split("1.5")[number:])
            with pytest.raises(error):
                decode(f"{before}{garbage}{after}".encode())


def test_a_dated_contract_has_no_funding_rate() -> None:
    body = MARK.replace('"lastFundingRate":"1.5","interestRate":"1.5"', '"lastFundingRate":"","interestRate":""')
    assert marks.encode(marks.decode(body.encode())) == body.encode()


def test_amounts_are_checked_together_as_each_alone() -> None:
    assert are_amounts([])
    good = ["0", "1.5", "", "0.00", "1" * CHARS_MAX, "9" * 19 + "." + "9" * 20]
    assert are_amounts(good)
    assert are_amounts([""])
    more = ["1 2", " ", "1\n", "-1", "01", "1" * (CHARS_MAX + 1)]
    for garbage in filter(None, GARBAGE + more):
        for place in range(len(good) + 1):
            assert not are_amounts([*good[:place], garbage, *good[place:]]), garbage
