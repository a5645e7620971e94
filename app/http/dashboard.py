"""The dashboard: its built files, sent from memory with the headers that keep everything foreign out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import xxhash
from fastapi import APIRouter, Request
from starlette.responses import Response

import app
from app.http.errors import ApiError
from app.http.headers import VARY, Header
from app.http.page import NOT_MODIFIED, Asked, accepts_gzip, asked_by, matches

BUILT: Final = Path(app.__file__).parent / "web" / "dist"
"""Where `make web` puts the files."""
ASSETS: Final = "assets"
"""Their folder in it; Vite names each file by a digest of its content."""
INDEX: Final = "index.html"
FILES_MAX: Final = 100  # the build makes about ten
FILE_BYTES_MAX: Final = 1_000_000  # the largest, the chart's library, has 200 kB before compression
TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
"""By ending: the Content-Type of what is served; a file with another ending is not."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY: Final[tuple[Header, ...]] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_FOR_EVER: Final[Header] = (
    b"cache-control",
    b"public, max-age=31536000, immutable",
)  # the name changes with the content
_ASK_AGAIN: Final[Header] = (b"cache-control", b"no-cache")


class BuiltFile(NamedTuple):
    """One file: its Content-Type, its bytes, and the same compressed, if the build made that."""

    type: bytes
    plain: bytes
    packed: bytes | None
    digest: bytes

    def response(self, asked: Asked, kept: Header) -> Response:
        """The answer to a GET: 200, or 304 where If-None-Match names the encoding that would be sent."""
        is_packed = self.packed is not None and accepts_gzip(asked.accept)
        etag = b'"%b%b"' % (self.digest, b"-gzip" if is_packed else b"")
        headers = [(b"etag", etag), kept, VARY, *_SECURITY]
        if asked.condition and matches(asked.condition, etag):
            response = Response(status_code=NOT_MODIFIED)
        else:
            response = Response(self.packed if is_packed else self.plain)
            headers.append((b"content-type", self.type))
            if is_packed:
                headers.append((b"content-encoding", b"gzip"))
        response.raw_headers.extend(headers)
        return response


class Dashboard:
    """The files of one build, read once; while there is no build, each request looks for one again."""

    def __init__(self, folder: Path = BUILT) -> None:
        self._folder = folder
        self._files: Mapping[str, BuiltFile] = {}

    def file(self, name: str) -> BuiltFile | None:
        """The file with a name such as `index.html` or `assets/index-4f.js`; None when the build has no such file."""
        if not self._files:
            self._files = _read(self._folder)
        return self._files.get(name)

    def front(self, request: Request) -> Response | None:
        """The page itself; None without a build."""
        index = self.file(INDEX)
        return None if index is None else index.response(asked_by(request.scope["headers"]), _ASK_AGAIN)


def dashboard_router(dashboard: Dashboard) -> APIRouter:
    """The route of what the page loads. The page itself is at `/` (app/http/front.py)."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"/{ASSETS}/{{name}}")
    async def asset(name: str, request: Request) -> Response:
        found = dashboard.file(f"{ASSETS}/{name}")
        if found is None:
            raise ApiError(404, f"The dashboard has no file {name[:100]}; it may be a newer one: load the page again.")
        return found.response(asked_by(request.scope["headers"]), _FOR_EVER)

    return router


def _read(folder: Path) -> dict[str, BuiltFile]:
    """The index and the assets, by name; empty when there is no whole build."""
    try:
        paths = [folder / INDEX, *sorted((folder / ASSETS).iterdir())]
        named = {path.relative_to(folder).as_posix(): path for path in paths[:FILES_MAX] if path.suffix in TYPES}
        return {name: _built(path) for name, path in named.items()}
    except OSError:
        return {}  # `/` says how to build it


def _built(path: Path) -> BuiltFile:
    """Read one file. Raises OSError."""
    plain = _bytes_of(path)
    packed = path.with_name(f"{path.name}.gz")
    digest = xxhash.xxh3_128_hexdigest(plain).encode()
    return BuiltFile(TYPES[path.suffix], plain, _bytes_of(packed) if packed.exists() else None, digest)


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise OSError(f"{path} is larger than anything the build makes")
    return data
