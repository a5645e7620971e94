"""The routes of a replay: /v1/replay reports and sets it, /v1/health says how it is."""

from typing import Final

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import Response

from app.binance.unreadable import UNREADABLE
from app.http.admin import body_of, time_ms
from app.http.admin_guard import AdminGuard
from app.http.documentation import OWN_LIMITS, json_doc, object_of
from app.http.errors import ApiError, json_response, takes_only
from app.http.headers import NO_STORE
from app.replaying.control import BadReplay, Control, Wanted

PATH: Final = "/v1/replay"
_BEARER: Final = HTTPBearer(auto_error=False, description="ADMIN_TOKEN, or the token beside the database.")
_HELP: Final = 'send {"speed": 1 to 1000, "pause": true or false, "seek": ms or ISO 8601, "loop": true or false}'


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    speed: int | None = None
    pause: bool | None = None
    seek: int | str | None = None
    loop: bool | None = None


_decoder: Final = msgspec.json.Decoder(_Asked)


def replay_router(control: Control, guard: AdminGuard) -> APIRouter:
    """The routes; those of /v1/replay are behind `guard`."""
    router = APIRouter(tags=["replay"], responses=OWN_LIMITS)
    guarded = [Depends(_BEARER), Depends(guard)]

    @router.get(PATH, dependencies=guarded, summary="The replay's time, its speed, and how late frames are")
    async def report() -> Response:
        return _report(control)

    @router.post(PATH, dependencies=guarded, summary="Set speed, pause, time or looping")
    async def change(request: Request) -> Response:
        set_by(control, await body_of(request))
        return _report(control)

    @router.get(
        "/v1/health",
        summary="Liveness: 200 while the process answers; status is ok or degraded, and why",
        responses={200: json_doc("How the replay is.", object_of(status={"enum": ["ok", "degraded"]}))},
    )
    async def health() -> Response:
        report = control.report()
        status = "degraded" if report["trouble"] else "ok"
        body = {"status": status, "reasons": report["trouble"], "replay": report}
        return json_response(msgspec.json.encode(body), 200, NO_STORE)

    takes_only(router, PATH, ("GET", "POST"))
    return router


def set_by(control: Control, body: bytes) -> None:
    """Set the replay as the body of a request says. Raises ApiError: nothing was set."""
    try:
        asked = _decoder.decode(body)
    except UNREADABLE as error:
        raise ApiError(400, f"Not understood: {error}; {_HELP}.") from error
    seek_ms = None if asked.seek is None else time_ms("seek", asked.seek)
    try:
        control.set(Wanted(asked.speed, asked.pause, asked.loop, seek_ms))
    except BadReplay as error:
        raise ApiError(400, f"{error}.") from error


def _report(control: Control) -> Response:
    return json_response(msgspec.json.encode(control.report()), 200, NO_STORE)
