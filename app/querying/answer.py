"""What is asked of the node and what it answers: the words between the HTTP face and the query service."""

from typing import Final, NamedTuple

from app.domain.interval import Interval
from app.domain.series import Series
from app.domain.span import Span

LIMIT_DEFAULT: Final = 500  # binance-facts section 2.1
LIMIT_MAX: Final = 1500
END_OF_TIME_MS: Final = 1 << 62


class KlineQuery(NamedTuple):
    """A klines request after its text was understood. `end_ms` is inclusive, as Binance's endTime."""

    series: Series
    start_ms: int | None
    end_ms: int | None
    limit: int
    only_final: bool
    allow_partial: bool = False
    """Whether what is held is a good answer when the whole one cannot be had."""

    @property
    def interval(self) -> Interval:
        """The interval asked for."""
        return self.series.interval


class Shortfall(NamedTuple):
    """What a partial answer lacks: of `window`, how many klines are held and absent, and which spans are missing."""

    window: Span
    held: int
    absent: int
    missing: tuple[Span, ...]
    klines_missing: int
    is_newest_known: bool
    """False when nobody could say whether there are klines after `window`."""


class Answer(NamedTuple):
    """An answer: whole, unless it has a shortfall.

    It stays true until a kline of `series` changes that opens in `touches` (`END_OF_TIME_MS` where the answer ends with
    the newest kline), until a live kline moves when `is_live`, or until `valid_until_ms`, whichever comes first.
    """

    body: bytes
    series: Series
    touches: Span
    is_live: bool
    valid_until_ms: int
    shortfall: Shortfall | None = None
    holes: tuple[Span, ...] = ()
    """Spans between its klines in which the exchange itself has none."""
