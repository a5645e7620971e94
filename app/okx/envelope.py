"""The envelope of OKX's REST answers: `{"code":"0","msg":"","data":[…]}`."""

from typing import Final, TypeVar

import msgspec

from app.domain.unreadable import BAD_JSON, Unreadable

SUCCESS: Final = "0"

_Rows = TypeVar("_Rows")


class _Envelope(msgspec.Struct, gc=False):
    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_envelope: Final = msgspec.json.Decoder(_Envelope)


def decode(body: bytes, rows: "msgspec.json.Decoder[_Rows]") -> _Rows:
    """The `data` of an answer. Raises Unreadable, also for an error of the exchange."""
    try:
        envelope = _envelope.decode(body)
        if envelope.code != SUCCESS:
            raise Unreadable(f"OKX answered error {envelope.code:.20}: {envelope.msg:.200}")
        return rows.decode(envelope.data)
    except BAD_JSON as error:
        raise Unreadable(f"expected an answer of OKX ({error}), got {body[:100]!r}") from error


def error_code(body: bytes) -> str:
    """The code of an answer, or "" for what is none."""
    try:
        return _envelope.decode(body).code
    except BAD_JSON:
        return ""
