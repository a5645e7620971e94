"""The parameters of Deribit's methods, and the errors for wrong ones."""

from collections.abc import Mapping
from typing import Final

from infra.sandbox.listings import Listing
from infra.sandbox.venue import Venue

Params = Mapping[str, object]
TOO_MANY: Final = 10028


class RpcError(Exception):
    """A refused request, with the `code`, `message` and `data` of the answer, and its id if that is all it has."""

    def __init__(
        self, code: int, message: str, data: Mapping[str, object] | None = None, *, number: object = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.data, self.number = code, message, data, number


def invalid(param: str, reason: str = "wrong format") -> RpcError:
    """The error of a wrong parameter."""
    return RpcError(-32602, "Invalid params", {"param": param, "reason": reason})


def listing_of(venue: Venue, params: Params, now_ms: int) -> Listing:
    """The instrument `instrument_name`. Raises RpcError."""
    listing = venue.listings.find(str(params.get("instrument_name", "")), now_ms)
    if listing is None:
        raise invalid("instrument_name")
    return listing


def whole(params: Params, name: str) -> int | None:
    """A parameter that is a whole number, which REST has as text; None if it is missing. Raises RpcError."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    raise invalid(name)


def needed(params: Params, name: str) -> int:
    """A whole number that must be there. Raises RpcError."""
    value = whole(params, name)
    if value is None:
        raise invalid(name, "is missing")
    return value


def count(params: Params, default: int, most: int) -> int:
    """The parameter `count`, from 1 to `most`. Raises RpcError."""
    value = whole(params, "count")
    if value is None:
        return default
    if not 1 <= value <= most:
        raise invalid("count", "out of range")
    return value
