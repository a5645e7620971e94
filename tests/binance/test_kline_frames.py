"""Kline events written from rows are read back as the rows, by the decoder of the exchange's frames."""

import json

from app.binance.kline_frames import continuous_event, kline_event
from app.binance.stream_event import KlineEvent, decode
from app.domain.interval import INTERVALS
from app.domain.kline import Kline
from app.sockets.stream_frames import combined

HOUR = INTERVALS["1h"]
ROW = Kline(1_795_132_800_000, "1.10", "2.00", "0.90", "1.50", "12.500", "17.00100", 42, "3.125", "4.00000")
LAST_MS = ROW.open_ms + 3_599_999


def test_an_event_is_read_back_as_the_row() -> None:
    for is_final in (True, False):
        payload = kline_event("BTCUSDT", HOUR, ROW, LAST_MS, LAST_MS + 1, is_final=is_final)
        event = decode(combined("btcusdt@kline_1h", payload))
        assert event == KlineEvent("BTCUSDT", HOUR, LAST_MS + 1, is_final, ROW)
        assert list(json.loads(payload)["k"]) == list("tTsifLochlvnxqVQB"), "in the exchange's order"


def test_a_continuous_event_has_pair_and_contract_type_and_no_symbol() -> None:
    event = json.loads(continuous_event("BTCUSDT", HOUR, ROW, LAST_MS, LAST_MS + 1, is_final=True))
    kline = json.loads(kline_event("BTCUSDT", HOUR, ROW, LAST_MS, LAST_MS + 1, is_final=True))["k"]
    assert event.pop("k") == {name: value for name, value in kline.items() if name != "s"}
    assert event == {"e": "continuous_kline", "E": LAST_MS + 1, "ps": "BTCUSDT", "ct": "PERPETUAL"}
