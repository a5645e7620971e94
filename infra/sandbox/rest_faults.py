"""The faults of REST that OKX and Deribit share."""

from typing import Final

from infra.sandbox.faults import FaultBoard, Target
from infra.sandbox.venue import Answer

_HTML: Final = {"Content-Type": "text/html"}


def unavailable(faults: FaultBoard, target: Target, now_ms: int) -> Answer | None:
    """The answer of a server that fails (http_5xx); None if it does not."""
    fault = faults.take("http_5xx", target, now_ms)
    if fault is None:
        return None
    status = fault.status or 503
    return Answer(status, _HTML, f"<html><body><h1>{status} ERROR</h1></body></html>".encode())


def spoiled(faults: FaultBoard, target: Target, now_ms: int, answer: Answer) -> Answer:
    """The answer after the fault malformed, if there is one. `abort` is as `empty` here."""
    fault = faults.take("malformed", target, now_ms)
    if fault is None:
        return answer
    if fault.shape == "truncated":
        return answer._replace(body=answer.body[: len(answer.body) // 2])
    if fault.shape == "html":
        return answer._replace(headers=_HTML, body=b"<html><body><h1>Attention Required!</h1></body></html>")
    return answer._replace(body=b"")
