"""The route GET /v1/export: held rows as one file."""

import asyncio
import base64
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.domain.interval import INTERVALS
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span
from app.exporting.download import Busy, Download, Missing, Question, TooLong
from app.exporting.threads import in_thread
from app.http.client_gone import unless_gone
from app.http.documentation import OWN_LIMITS, own_error_doc
from app.http.errors import ApiError, unavailable, unlisted
from app.http.headers import NO_STORE
from app.http.own_params import STRICT
from app.http.params import INTEGER_MAX, TIME_MS_MAX
from app.http.services import Services
from app.kinds.registry import named
from app.ports.errors import NotRecorded
from app.ports.export import ExportError, Format

CHUNK_BYTES: Final = 256 * 1024
SENT_S_MIN: Final = 60.0  # of sending a file of any size
SENT_BYTES_S_MIN: Final = 512 * 1024  # the largest file in half an hour: a slower client would keep others from theirs
CLIENT_GONE: Final = 499
"""What nginx logs for a client that disconnected before its answer; nobody receives it."""
BUSY_RETRY_AFTER_S: Final = 10  # an export takes some seconds
MISSING_RETRY_AFTER_S: Final = 60  # a node that is filling has more rows then
MEDIA_TYPES: Final = {
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.ARROW: "application/vnd.apache.arrow.file",
    Format.CSV: "text/csv; charset=utf-8",
    Format.SQLITE: "application/vnd.sqlite3",
    Format.MARKETSTORE: "application/msgpack",
}
_FILE: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_CODES: Final = "|".join(INTERVALS)
_INTERVALS: Final[dict[str, Any]] = {"pattern": f"^({_CODES})(,({_CODES}))*$", "example": "1m,1h"}
_TIME: Final = Query(
    ge=0, le=INTEGER_MAX, description="Times in ms, both ends included: stamp_time where rows have one, else open_time."
)


class FileResponse(Response):
    """An answer whose body is a file, which is deleted when it was sent or the client has gone."""

    def __init__(self, download: Download, form: Format) -> None:
        super().__init__(status_code=200, media_type=MEDIA_TYPES[form])
        self._download = download
        digest = base64.b64encode(bytes.fromhex(download.sha256)).decode()
        self.headers["content-length"] = str(download.size)
        self.headers["content-digest"] = f"sha-256=:{digest}:"
        self.headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(download.name)}"
        self.headers["x-klinenode-rows"] = str(download.rows)
        self.headers["x-klinenode-coverage"] = (
            f"partial; klines_missing={download.missing}" if download.missing else "complete"
        )
        self.raw_headers.append(NO_STORE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, as fast as the client reads; one that reads too slowly is cut off."""
        try:
            async with asyncio.timeout(SENT_S_MIN + self._download.size / SENT_BYTES_S_MIN):
                await unless_gone({}, receive, self._send(send))  # sending shows whether the client still reads
        except TimeoutError:
            return  # the server closes the connection, so the client knows that its file is not whole
        finally:
            self._download.release()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        chunk = await in_thread(self._download.file.read, CHUNK_BYTES)
        while chunk:
            following = await in_thread(self._download.file.read, CHUNK_BYTES)
            if not following:
                self._download.release()  # a client that has its last byte may ask for the next file at once
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = following
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def export_router(services: Services) -> APIRouter:
    """The router with the route."""
    router = APIRouter(prefix="/v1", tags=["operation"], responses=OWN_LIMITS, dependencies=[STRICT])

    @router.get(
        "/export",
        summary="Held rows as a file: Parquet, Arrow, CSV, SQLite or MarketStore",
        response_class=Response,
        responses={
            200: {
                "description": "The file. Content-Digest is its SHA-256, X-Klinenode-Rows the number of its rows.",
                "content": {media_type.partition(";")[0]: _FILE for media_type in MEDIA_TYPES.values()},
            },
            400: own_error_doc("A parameter is wrong, or the rows do not fit the format."),
            503: own_error_doc(
                "Another export is under way, rows are not held (allow_partial=true sends the rest), or the file was "
                "not made in time: ask for less."
            ),
        },
    )
    async def export(
        request: Request,
        symbols: Annotated[str, Query(min_length=1, description="Names, joined by commas; also BTCUSDT@markPrice.")],
        intervals: Annotated[str, Query(json_schema_extra=_INTERVALS, description="Intervals, joined by commas.")],
        startTime: Annotated[int, _TIME],  # noqa: N803  as the exchange spells it
        endTime: Annotated[int, _TIME] = TIME_MS_MAX,  # noqa: N803
        format: Annotated[Format, Query()] = Format.PARQUET,  # noqa: A002  the name of the parameter
        float64: Annotated[bool, Query(description="Round decimals to float64.")] = False,
        allow_partial: Annotated[bool, Query(description="Send what is held, where rows are missing.")] = False,
        as_of: Annotated[
            int | None, Query(ge=0, le=INTEGER_MAX, description="Rows as this node held them at this past time (ms).")
        ] = None,
    ) -> Response:
        span = Span(min(startTime, TIME_MS_MAX), min(endTime, TIME_MS_MAX) + 1)
        if not span:
            raise ApiError(400, "startTime is after endTime.")
        series = _series(services, symbols, intervals)
        if services.downloads is None:
            raise unavailable("This process makes no exports.", Reason.BUSY, BUSY_RETRY_AFTER_S)
        question = Question(series, span, format, float64, allow_partial, as_of)
        try:
            download = await unless_gone(request.scope, request.receive, services.downloads.make(question))
        except Busy as error:
            raise unavailable(f"{error}: one is made at a time.", Reason.BUSY, BUSY_RETRY_AFTER_S) from error
        except NotRecorded as error:
            raise ApiError(400, str(error)) from error
        except Missing as error:
            if as_of is not None:  # no later try finds more
                text = f"As of {as_of}, {error}; allow_partial=true sends the others."
                raise unavailable(text, Reason.NOT_HELD, None) from error
            text = f"{error}; allow_partial=true sends the others, and /v1/coverage says what is missing."
            raise unavailable(text, Reason.NOT_WHOLE, MISSING_RETRY_AFTER_S) from error
        except TooLong as error:
            text = f"{error}: ask for less at a time, or use klinenode export on the node's machine."
            raise unavailable(text, Reason.SLOW, BUSY_RETRY_AFTER_S) from error
        except ExportError as error:
            raise ApiError(400, f"{error}.") from error
        except OSError as error:
            raise unavailable(f"The file cannot be built: {error}.", Reason.DATABASE, BUSY_RETRY_AFTER_S) from error
        return Response(status_code=CLIENT_GONE) if download is None else FileResponse(download, format)

    return router


def _series(services: Services, symbols: str, intervals: str) -> tuple[Series, ...]:
    """The series of a request, those of one table together; the query's length bounds them. Raises ApiError."""
    words, codes = symbols.split(","), intervals.split(",")
    for code in codes:
        if code not in INTERVALS:
            raise ApiError(400, f"No such interval: {code[:40]}. There are {', '.join(INTERVALS)}.")
    names = []
    for word in words:
        name = services.query.name(word)
        if name is None:
            raise ApiError(400, unlisted(word))
        names.append(name)
    found = dict.fromkeys(named(name, INTERVALS[code]) for code in codes for name in names)
    some = tuple(each for each in found if each.interval in each.kind.intervals_of((each.interval,)))
    if not some:
        there_are = ", ".join(str(interval) for interval in next(iter(found)).kind.intervals)
        raise ApiError(400, f"{names[0]} has rows of {there_are} only.")
    return some
