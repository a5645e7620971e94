"""X-Klinenode-Coverage: how an answer that was allowed to be partial says what it lacks."""

from typing import Final

from app.domain.span import Span
from app.http.headers import Header
from app.services.answer import Answer

SPANS_MAX: Final = 16  # named in the header; 16 × 28 bytes stay far below what proxies accept (nginx: 4 kB in all)

_NAME: Final = b"x-klinenode-coverage"
_EXPOSED: Final[Header] = (b"access-control-expose-headers", b"X-Klinenode-Coverage")  # for pages of any origin


def coverage_headers(answer: Answer) -> tuple[Header, ...]:
    """The headers of an answer to a request with allow_partial=true."""
    return (_NAME, _value(answer).encode()), _EXPOSED


def _value(answer: Answer) -> str:
    """`complete`, or what is missing: half-open spans of open times in ms, at most SPANS_MAX by name, oldest first."""
    lacks = answer.shortfall
    if lacks is None:
        return "complete"
    parts = ["partial"]
    if lacks.missing:
        parts.append("missing=" + ",".join(_span(span) for span in lacks.missing[:SPANS_MAX]))
    parts.append(f"klines_missing={lacks.klines_missing}")
    if len(lacks.missing) > SPANS_MAX:
        parts.append(f"more={len(lacks.missing) - SPANS_MAX}")
    parts += [f"klines_held={lacks.held}", f"klines_absent={lacks.absent}", f"window={_span(lacks.window)}"]
    if not lacks.is_newest_known:
        parts.append("newest=unconfirmed")
    return "; ".join(parts)


def _span(span: Span) -> str:
    return f"{span.start_ms}-{span.end_ms}"
