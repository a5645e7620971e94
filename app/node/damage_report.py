"""How a process that does not write tells the writer which sealed block is damaged."""

import json
from typing import Final

from app.domain.interval import INTERVALS
from app.domain.span import Span
from app.kinds.registry import named
from app.ports.coordination import RpcRequest, RpcResponse
from app.ports.errors import StoreDamaged

_PATH: Final = "repair"  # no request of a client has it: theirs begin with a slash
RECEIVED: Final = RpcResponse(204, [], b"")


def report_of(error: StoreDamaged) -> RpcRequest:
    """The request that tells the writer of `error`."""
    told = (error.series.name, error.series.interval.code, *error.span, error.reason)
    return RpcRequest("POST", _PATH, "", "", [], json.dumps(told).encode())


def reported(request: RpcRequest) -> StoreDamaged | None:
    """The error of which `request` tells; None when it is another request."""
    if request.path != _PATH:
        return None
    name, code, start_ms, end_ms, reason = json.loads(request.body)
    return StoreDamaged(named(name, INTERVALS[code]), Span(start_ms, end_ms), reason)
