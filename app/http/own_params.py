"""The query strings of the node's own routes, read as strictly as those of klines before FastAPI converts them."""

from typing import Any, Final, get_args

from fastapi import Depends, Request

from app.binance.error_body import invalid_parameter, missing_parameter
from app.http.params import is_integer, is_truth, sent_parameters


async def _strict(request: Request) -> None:
    """Raise BinanceError (-1101, -1102, -1130) for a parameter given twice, and for a number or truth in odd letters.

    FastAPI takes the last of two values, and numbers such as `1_000`, `+1`, ` 1` and `1.0`.
    """
    types = {
        field.alias: _types(field.field_info.annotation) for field in request.scope["route"].dependant.query_params
    }
    for name, text in sent_parameters(request.scope["query_string"], types.keys()).items():
        if int in types[name] and not is_integer(text):
            raise missing_parameter(name)
        if bool in types[name] and not is_truth(text):
            raise invalid_parameter(name)


def _types(annotation: Any) -> tuple[Any, ...]:
    """The types that a parameter's values may have: int and None for `int | None`."""
    return get_args(annotation) or (annotation,)


STRICT: Final = Depends(_strict)
"""Makes all routes of a router strict."""
