"""What store and exchange raise, by what the caller can do about it."""

from app.domain.reason import Reason


class StoreUnavailable(Exception):
    """The database cannot be read or written right now (locked, full, gone); the message says what to do."""

    def __init__(self, message: str, cause: Reason = Reason.DATABASE) -> None:
        super().__init__(message)
        self.cause = cause


class SchemaTooNew(Exception):
    """A newer version of klinenode has changed the database; this one leaves it alone. The message says what to do."""


class UpstreamError(Exception):
    """Why an upstream request gave no data. What the caller can do depends on the kind:

    UpstreamError
     ├── StandDown            nothing leaves before `until_ms`; wait, serve what is held
     ├── UpstreamUnavailable  no answer, 5xx, timeout after retries; try again later
     │    ├── UpstreamAway    refused here: the exchange has not answered for a while; it is probed meanwhile
     │    └── BucketFull      refused here: as much was asked of this kind as the exchange grants in its time
     ├── UpstreamRejected     the exchange says this request is wrong (`error` has its code); asking again is pointless
     ├── UpstreamGarbage      an answer that cannot be used; count it and ask again later
     │    └── FileRejected    an archive file that did not pass a check
     └── NotPublished         the archive does not have this file (404)
    """

    cause = Reason.EXCHANGE


class StandDown(UpstreamError):
    """No request may leave before `until_ms`."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(f"standing down until {until_ms}: {reason}")
        self.cause = Reason.STAND_DOWN
        self.until_ms = until_ms
        self.reason = reason


class UpstreamUnavailable(UpstreamError):
    """No usable answer came, after retries; or none was asked for, and `cause` says why."""

    def __init__(self, message: str, cause: Reason = Reason.EXCHANGE) -> None:
        super().__init__(message)
        self.cause = cause


class UpstreamAway(UpstreamUnavailable):
    """The exchange has not answered for a while; asking before `until_ms` is pointless."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(reason)
        self.until_ms = until_ms


class BucketFull(UpstreamUnavailable):
    """The requests that the exchange grants of a kind are used up; there is room again at `until_ms`."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(reason, Reason.WEIGHT)
        self.until_ms = until_ms


class UpstreamRejected(UpstreamError):
    """The exchange refused the request with one of its error codes."""

    def __init__(self, status: int, code: int, msg: str) -> None:
        super().__init__(f"{status} {code} {msg}")
        self.status = status
        self.code = code
        self.msg = msg


class UpstreamGarbage(UpstreamError):
    """The answer is not what it should be."""

    def __init__(self, message: str, cause: Reason = Reason.EXCHANGE) -> None:
        super().__init__(message)
        self.cause = cause


class FileRejected(UpstreamGarbage):
    """An archive file did not pass a check: size, checksum, zip, name, columns, rows, order or time."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class NotPublished(UpstreamError):
    """The archive does not have the file."""
