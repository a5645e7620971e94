"""Turns a failure of the exchange or the store into an error in Binance's shape."""

from typing import Final

from app.binance.error_body import BinanceError, invalid_symbol, service_unavailable
from app.domain.reason import Reason
from app.filling.absence import Unproven
from app.ports.errors import BucketFull, StandDown, StoreUnavailable, UpstreamError, UpstreamRejected

RETRY_AFTER_S: Final = 5
RETRY_AFTER_S_MAX: Final = 3600  # a Retry-After of days is of no use to a client


def refusal_of(error: Exception, now_ms: int) -> BinanceError:
    """The error for the client when the exchange or the store returned no data because of `error`."""
    if isinstance(error, StandDown | BucketFull | Unproven):
        wait_s = max(1, (error.until_ms - now_ms + 999) // 1000)
        return service_unavailable(min(wait_s, RETRY_AFTER_S_MAX), error.cause)
    if isinstance(error, UpstreamRejected) and error.code == invalid_symbol().code:
        return invalid_symbol()
    cause = error.cause if isinstance(error, UpstreamError | StoreUnavailable) else Reason.EXCHANGE  # a timeout
    return service_unavailable(RETRY_AFTER_S, cause)
