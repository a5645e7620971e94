"""What the headers of Binance's answers say, and which of them say nothing."""

import httpx
import pytest

from infra.binance import headers
from infra.net.http import Answer


@pytest.mark.parametrize(("text", "used"), [("2400", 2400), ("", None), ("-1", None), ("1e3", None), ("9" * 10, None)])
def test_the_used_weight_is_a_whole_number_of_usual_size(text: str, used: int | None) -> None:
    assert headers.used_weight(httpx.Headers({"X-MBX-USED-WEIGHT-1M": text})) == used
    assert headers.used_weight(httpx.Headers()) is None


@pytest.mark.parametrize(
    ("text", "date_ms"),
    [
        ("Fri, 02 Jan 2026 03:04:05 GMT", 1_767_323_045_000),
        ("Fri, 02 Jan 2015 03:04:05 GMT", None),  # the exchange had not opened
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_date_of_an_answer_is_one_of_the_exchanges_time(text: str, date_ms: int | None) -> None:
    assert headers.date_ms(Answer(200, httpx.Headers({"Date": text}), b"")) == date_ms
    assert headers.date_ms(Answer(200, httpx.Headers({"Date": text, "Age": "1"}), b"")) is None
