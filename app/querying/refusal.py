"""Why there is no answer, as Binance would say it."""

from typing import Final

from app.binance.error_body import BinanceError, invalid_symbol, service_unavailable
from app.domain.reason import Reason
from app.filling.absence import Unproven
from app.ports.errors import BucketFull, StandDown, StoreUnavailable, UpstreamError, UpstreamRejected

RETRY_AFTER_S: Final = 5
RETRY_AFTER_S_MAX: Final = 3600  # a client that is told to come back in days is not told anything


def refusal_of(error: Exception, now_ms: int) -> BinanceError:
    """What who asked is told when the exchange or the store gave no data because of `error`."""
    if isinstance(error, StandDown | BucketFull | Unproven):
        wait_s = max(1, (error.until_ms - now_ms + 999) // 1000)
        return service_unavailable(min(wait_s, RETRY_AFTER_S_MAX), error.cause)
    if isinstance(error, UpstreamRejected) and error.code == invalid_symbol().code:
        return invalid_symbol()
    cause = error.cause if isinstance(error, UpstreamError | StoreUnavailable) else Reason.EXCHANGE  # it took too long
    return service_unavailable(RETRY_AFTER_S, cause)
