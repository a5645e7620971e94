"""The envelope of Deribit's answers: `{"jsonrpc":"2.0","result":…,"usOut":…}` or `{"error":{"code":…}}`."""

from typing import Any, Final

import msgspec

from app.domain.unreadable import BAD_JSON, Unreadable


class RpcError(msgspec.Struct, gc=False):
    """An error of JSON-RPC."""

    code: int = 0
    message: str = ""


class _Envelope(msgspec.Struct, gc=False):
    result: msgspec.Raw = msgspec.Raw()
    error: RpcError | None = None
    usOut: int = 0  # noqa: N815  Deribit's name


_envelope: Final = msgspec.json.Decoder(_Envelope)


def decode(body: bytes, result: "msgspec.json.Decoder[Any]") -> Any:
    """The `result` of an answer. Raises Unreadable, also for an error of the exchange."""
    return decode_with_time(body, result)[0]


def decode_with_time(body: bytes, result: "msgspec.json.Decoder[Any]") -> tuple[Any, int]:
    """The `result`, and when Deribit sent it (ms; 0 if it does not say). Raises Unreadable."""
    try:
        envelope = _envelope.decode(body)
        if envelope.error is not None:
            raise Unreadable(f"Deribit answered error {envelope.error.code}: {envelope.error.message:.200}")
        return result.decode(envelope.result), envelope.usOut // 1_000
    except BAD_JSON as error:
        raise Unreadable(f"expected an answer of Deribit ({error!s:.200}), got {body[:100]!r}") from error


def error_code(body: bytes) -> int:
    """The code of an error, or 0 for what is none."""
    try:
        error = _envelope.decode(body).error
    except BAD_JSON:
        return 0
    return error.code if error is not None else 0
