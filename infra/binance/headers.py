"""What the headers of Binance's REST answers say."""

from collections.abc import Mapping

from app.binance.server_time import plausible
from infra.net.http import Answer


def used_weight(headers: Mapping[str, str]) -> int | None:
    """X-MBX-USED-WEIGHT-1M: the weight that this IP has used in the minute; None without a valid header."""
    text = headers.get("x-mbx-used-weight-1m", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def date_ms(answer: Answer) -> int | None:
    """The Date of the answer (ms, whole seconds); None if the header is missing or implausible."""
    return None if (stated_ms := answer.date_ms) is None else plausible(stated_ms)
