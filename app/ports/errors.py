"""The errors of store and exchange, divided by what the caller can do about them."""

from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span


class StoreUnavailable(Exception):
    """The database cannot be read or written right now (locked, full, deleted); the message says what to do."""

    def __init__(self, message: str, cause: Reason = Reason.DATABASE) -> None:
        super().__init__(message)
        self.cause = cause


class StoreUnusable(StoreUnavailable):
    """The database cannot be used as the settings name it, and waiting does not help; the message says what to do."""


class StoreDamaged(StoreUnavailable):
    """A sealed block does not contain what was written; the writer deletes it and fetches the rows of `span` again."""

    def __init__(self, series: Series, span: Span, reason: str) -> None:
        super().__init__(
            f"the stored block of {series} from {span.start_ms} on is damaged, it is fetched again: {reason}"
        )
        self.series = series
        self.span = span
        self.reason = reason


class NotRecorded(Exception):
    """It is not recorded what the store held at the time that is asked for; the message says why, for a client."""


class SchemaTooNew(Exception):
    """The schema was migrated by a newer version of klinenode, so this one does not open it. The message helps."""


class UpstreamError(Exception):
    """An upstream request returned no data. What the caller can do depends on the class:

    UpstreamError
     ├── StandDown            no request is sent before `until_ms`; wait, and serve what is held
     ├── UpstreamUnavailable  no answer, 5xx or timeout after all retries; retry later
     │    ├── UpstreamAway    not sent: the exchange has not answered for a while, and is being probed
     │    └── BucketFull      not sent: the exchange's limit of requests of this type is used up
     ├── UpstreamRejected     the exchange refused the request with an error code; do not retry
     ├── UpstreamGarbage      the answer cannot be used; it is counted, retry later
     │    └── FileRejected    an archive file failed a check
     └── NotPublished         the archive does not have this file (404)
    """

    cause = Reason.EXCHANGE


class StandDown(UpstreamError):
    """No request may be sent before `until_ms`, because the exchange answered 403, 418, 429 or 451."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(f"standing down until {until_ms}: {reason}")
        self.cause = Reason.STAND_DOWN
        self.until_ms = until_ms
        self.reason = reason


class UpstreamUnavailable(UpstreamError):
    """There was no usable answer after all retries, or no request was sent; `cause` says why."""

    def __init__(self, message: str, cause: Reason = Reason.EXCHANGE) -> None:
        super().__init__(message)
        self.cause = cause


class UpstreamAway(UpstreamUnavailable):
    """The exchange has not answered for a while; retrying before `until_ms` is pointless."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(reason)
        self.until_ms = until_ms


class BucketFull(UpstreamUnavailable):
    """A rate limit that counts requests (funding, /futures/data) is used up until `until_ms`."""

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
    """The answer does not have the documented form."""

    def __init__(self, message: str, cause: Reason = Reason.EXCHANGE) -> None:
        super().__init__(message)
        self.cause = cause


class FileRejected(UpstreamGarbage):
    """An archive file failed `check`: size, checksum, zip, name, columns, rows, order or time."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class NotPublished(UpstreamError):
    """The archive does not have the file."""
