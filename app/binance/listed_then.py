"""exchangeInfo as of a past time: the symbols listed then, by their dates, with today's filters."""

from typing import Final

import msgspec

from app.binance.exchange_info import BadExchangeInfo
from app.binance.unreadable import UNREADABLE
from app.domain.symbol import Symbol

TRADING: Final = msgspec.Raw(b'"TRADING"')
_STATUSES: Final = ("status", "contractStatus")


class ListedThen:
    """The entries of one exchangeInfo answer, from which the list of any earlier time is made."""

    def __init__(self, body: bytes, symbols: list[Symbol]) -> None:
        """`symbols`: what `exchange_info.decode` made of `body`. Raises BadExchangeInfo."""
        try:
            self._fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            entries = msgspec.json.decode(self._fields["symbols"], type=list[dict[str, msgspec.Raw]])
        except (KeyError, *UNREADABLE) as error:
            raise BadExchangeInfo(f"not an exchangeInfo answer: {error}") from error
        self._entries = [(symbol, _trading(entry)) for symbol, entry in zip(symbols, entries, strict=True)]
        self._moments = sorted({each for symbol in symbols for each in (symbol.onboard_ms, symbol.ends_ms or 0)})
        self._made: tuple[int, bytes] | None = None

    def body(self, time_ms: int) -> bytes:
        """The answer at `time_ms`: who was listed then, as trading; `serverTime` is when the list last changed."""
        changed_ms = max((moment for moment in self._moments if moment <= time_ms), default=0)
        if self._made is None or self._made[0] != changed_ms:
            listed = [entry for symbol, entry in self._entries if is_listed(symbol, time_ms)]
            fields = {**self._fields, "symbols": msgspec.Raw(msgspec.json.encode(listed))}
            if "serverTime" in fields:
                fields["serverTime"] = msgspec.Raw(b"%d" % changed_ms)
            self._made = changed_ms, msgspec.json.encode(fields)
        return self._made[1]


def is_listed(symbol: Symbol, time_ms: int) -> bool:
    """Whether a symbol was listed at `time_ms`, by the dates that the exchange states today."""
    return symbol.onboard_ms <= time_ms and (symbol.ends_ms is None or time_ms < symbol.ends_ms)


def _trading(entry: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    return entry | dict.fromkeys((name for name in _STATUSES if name in entry), TRADING)
