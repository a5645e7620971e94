"""The types between the HTTP layer and the query service: query, answer, and shortfall of a partial answer."""

from typing import Final, NamedTuple

from app.domain.interval import Interval
from app.domain.series import Series
from app.domain.span import Span

LIMIT_DEFAULT: Final = 500  # binance-facts section 2.1
LIMIT_MAX: Final = 1500
END_OF_TIME_MS: Final = 1 << 62


class KlineQuery(NamedTuple):
    """A parsed klines request. `end_ms` is inclusive, as Binance's endTime."""

    series: Series
    start_ms: int | None
    end_ms: int | None
    limit: int
    only_final: bool
    allow_partial: bool = False
    """Whether the client accepts the held klines alone when the whole answer is not available."""
    as_of_ms: int | None = None
    """The past time whose answer is asked for: with what was held then; None: now."""

    @property
    def interval(self) -> Interval:
        """The interval asked for."""
        return self.series.interval


class Shortfall(NamedTuple):
    """What a partial answer lacks: the klines held and absent in `window`, and the spans that are missing."""

    window: Span
    held: int
    absent: int
    missing: tuple[Span, ...]
    klines_missing: int
    is_newest_known: bool
    """False when it is unknown whether there are klines after `window`."""


class Answer(NamedTuple):
    """An answer: whole, unless it has a shortfall.

    The answer is valid until the first of: a kline of `series` that opens in `touches` changes (`touches` ends at
    `END_OF_TIME_MS` where the answer ends with the newest kline), a live kline changes if `is_live`, `valid_until_ms`.
    """

    body: bytes
    series: Series
    touches: Span
    is_live: bool
    valid_until_ms: int
    shortfall: Shortfall | None = None
    holes: tuple[Span, ...] = ()
    """Spans between the answer's klines in which the exchange itself has none."""
