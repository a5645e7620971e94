"""What JetStream answers to a publish or to a request of its API."""

from typing import Any, Final

import msgspec

NOT_FOUND: Final = 404
OVERLAPS: Final = 10065
FULL: Final = 10077
TOO_LARGE: Final = 10054
NO_SPACE: Final = 10047
LATER_S: Final = "publishing goes on by itself then"


class ApiError(msgspec.Struct, frozen=True):
    """An error as JetStream describes it."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    def __str__(self) -> str:
        return f"{self.description} ({self.code}/{self.err_code})"


class Acknowledgement(msgspec.Struct, frozen=True):
    """The answer to a publish: `stream` has stored it (with `duplicate`: has seen its id), or `error`."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class ApiAnswer(msgspec.Struct, frozen=True):
    """The answer of the API: the configuration of a stream as the server has it, or `error`."""

    config: dict[str, Any] = {}
    error: ApiError | None = None


def refusal(subject: str, error: ApiError) -> str:
    """What to do about a publish that was refused."""
    if error.err_code == FULL:
        limit = "its max_msgs" if "messages" in error.description else "NATS_STREAM_BYTES_MAX"
        return f"the stream of {subject} is full: {error}; raise {limit} or purge it; {LATER_S}"
    if error.err_code == TOO_LARGE:
        return f"the stream of {subject} takes no such message: {error}; raise its max_msg_size; {LATER_S}"
    if error.err_code == NO_SPACE:
        return (
            f"the NATS server has no room: {error}; raise its max_file_store or lower NATS_STREAM_BYTES_MAX; {LATER_S}"
        )
    return f"the stream refuses {subject}: {error}; {LATER_S} when that has changed"
