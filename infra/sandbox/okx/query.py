"""The parameters of OKX's REST, and the errors for wrong ones."""

from collections.abc import Mapping

from infra.sandbox.listings import Listing
from infra.sandbox.venue import Venue

Query = Mapping[str, str]


class OkxError(Exception):
    """A refused request, with OKX's `code`, its `msg` and the HTTP status."""

    def __init__(self, code: str, msg: str, status: int = 200) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status = code, msg, status


def listing_of(venue: Venue, query: Query, now_ms: int) -> Listing:
    """The instrument `instId`. Raises OkxError."""
    name = query.get("instId", "")
    if not name:
        raise OkxError("50014", "Parameter instId can not be empty.", 400)
    listing = venue.listings.find(name, now_ms)
    if listing is None:
        raise OkxError("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
    return listing


def whole(query: Query, name: str) -> int | None:
    """A parameter that is a whole number; None if it is missing. Raises OkxError."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise OkxError("51000", f"Parameter {name} error")
    return int(text)


def count(query: Query, name: str, default: int, most: int) -> int:
    """A number of rows: more than there may be is cut to `most`."""
    number = whole(query, name)
    if number == 0:
        raise OkxError("51000", f"Parameter {name} error")
    return min(default if number is None else number, most)
