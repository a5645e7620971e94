"""The header X-Klinenode-Coverage: what a partial answer lacks, and which klines the exchange itself does not have."""

from collections.abc import Iterator, Sequence
from typing import Final

from app.domain.span import Span
from app.http.headers import Header
from app.querying.answer import Answer

SPANS_MAX: Final = 16  # in the header; 16 × 28 bytes are far below what proxies accept (nginx: 4 kB for all headers)

_NAME: Final = b"x-klinenode-coverage"
_EXPOSED: Final[Header] = (b"access-control-expose-headers", b"X-Klinenode-Coverage")  # readable from any origin


def coverage_headers(answer: Answer) -> tuple[Header, ...]:
    """The headers of an answer that has holes, or was allowed to be partial."""
    return (_NAME, _value(answer).encode()), _EXPOSED


def _value(answer: Answer) -> str:
    """`partial` and what is missing, or `complete` and the holes that the exchange itself has within the answer.

    Spans are half-open, of open times in ms, oldest first; at most SPANS_MAX are named, `more` counts the others.
    Example: "partial; missing=1735689600000-1735689900000; klines_missing=5; …".
    """
    lacks = answer.shortfall
    if lacks is None:
        return "; ".join(["complete", *_holes(answer.holes)])
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


def _holes(holes: Sequence[Span]) -> Iterator[str]:
    if holes:
        yield "absent=" + ",".join(_span(span) for span in holes[:SPANS_MAX])
    if len(holes) > SPANS_MAX:
        yield f"more={len(holes) - SPANS_MAX}"


def _span(span: Span) -> str:
    return f"{span.start_ms}-{span.end_ms}"
