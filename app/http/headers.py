"""The header tuples that every answer under Binance's paths carries."""

from typing import Final

from app.domain.reason import Reason

Header = tuple[bytes, bytes]
REASON: Final = b"x-klinenode-reason"

JSON: Final[Header] = (b"content-type", b"application/json")
NO_STORE: Final[Header] = (b"cache-control", b"no-store")
VARY: Final[Header] = (b"vary", b"Accept-Encoding")

BINANCE: Final[tuple[Header, ...]] = (
    (b"x-mbx-used-weight-1m", b"1"),  # ours: nobody is ever near a limit, and clients' own limiters stay calm
    (b"access-control-allow-origin", b"*"),  # as the exchange: public data, read by pages of any origin
)


def reason_header(reason: Reason) -> Header:
    """Why a request is refused for the moment, for programs."""
    return REASON, reason.encode()
