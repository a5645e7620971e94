"""data.binance.vision on loopback: daily and monthly ZIP files with checksums (binance-facts section 6)."""

import asyncio
import hashlib
import io
import re
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import Fault, FaultBoard, Target
from infra.sandbox.grid import DAY_MS, DURATIONS_MS, HOUR_MS, MINUTE_MS, Grid, utc, utc_ms
from infra.sandbox.journal import Journal
from infra.sandbox.render import archive_csv
from infra.sandbox.rest import drop_rows

PUBLISHED_AT_MS = 8 * HOUR_MS + 30 * MINUTE_MS  # 08:30 UTC, the earliest observed
FILES_BYTES_MAX = 64 * 1024 * 1024
_KEY = re.compile(
    r"^/data/futures/um/(?P<period>daily|monthly)/klines/(?P<symbol>[^/]+)/(?P<folder>[^/]+)/"
    r"(?P<stem>[^/]+)-(?P<year>\d{4})-(?P<month>\d\d)(?:-(?P<day>\d\d))?\.zip(?P<checksum>\.CHECKSUM)?$"
)
_DAILY = frozenset(interval for interval, size_ms in DURATIONS_MS.items() if size_ms <= DAY_MS)


@dataclass(frozen=True, slots=True)
class FileKey:
    """One archive file: the series and the UTC period [start_ms, end_ms) that it covers."""

    symbol: str
    interval: str
    name: str
    start_ms: int
    end_ms: int
    monthly: bool

    @property
    def published_ms(self) -> int:
        """When the file appears: 08:30 UTC of the next day, or of the next month's first Monday."""
        if not self.monthly:
            return self.end_ms + PUBLISHED_AT_MS
        return self.end_ms + (-utc(self.end_ms).weekday()) % 7 * DAY_MS + PUBLISHED_AT_MS


@dataclass(slots=True)
class Archive:
    """The ASGI application under /data."""

    exchange: Exchange
    faults: FaultBoard
    journal: Journal
    _files: OrderedDict[FileKey, bytes] = field(default_factory=OrderedDict)
    _files_bytes: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one GET or HEAD."""
        request = Request(scope, receive)
        path, now_ms = str(scope["path"]), self.exchange.clock.now_ms()
        key, wants_checksum = parse_key(path)
        target = Target(key.symbol if key else "", key.interval if key else "", path)
        if (slow := self.faults.take("archive_slow", target, now_ms)) is not None:
            await self.exchange.clock.sleep(slow.delay_s)
        if (error := self.faults.take("archive_5xx", target, now_ms)) is not None:
            await Response("", error.status or 503)(scope, receive, send)
            return
        body = await self._body(key, target, now_ms, wants_checksum=wants_checksum) if key else None
        response = _missing(path) if body is None else _found(body, wants_checksum=wants_checksum)
        self.journal.write(now_ms, "archive", path, status=response.status_code, detail=request.method)
        await response(scope, receive, send)

    async def _body(self, key: FileKey, target: Target, now_ms: int, *, wants_checksum: bool) -> bytes | None:
        if self.faults.take("archive_404", target, now_ms) or now_ms < key.published_ms:
            return None
        kinds = ("hole", "archive_missing_rows")
        lacks = tuple(fault for kind in kinds if (fault := self.faults.take(kind, target, now_ms)) is not None)
        content = await self._file(key, now_ms, lacks)
        if content is None or not wants_checksum:
            if content is not None and self.faults.take("corrupt_zip", target, now_ms):
                return corrupt(content)
            return content
        digest = hashlib.sha256(content).hexdigest()
        if self.faults.take("wrong_checksum", target, now_ms):
            digest = digest[::-1]
        return f"{digest}  {key.name}\n".encode()

    async def _file(self, key: FileKey, now_ms: int, lacks: tuple[Fault, ...]) -> bytes | None:
        if not lacks and key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        content = await asyncio.to_thread(self._build, key, now_ms, lacks)
        if content is not None and not lacks and key not in self._files:
            self._files[key] = content
            self._files_bytes += len(content)
            while self._files_bytes > FILES_BYTES_MAX:
                self._files_bytes -= len(self._files.popitem(last=False)[1])
        return content

    def _build(self, key: FileKey, now_ms: int, lacks: tuple[Fault, ...]) -> bytes | None:
        item = self.exchange.universe.find_ever(key.symbol, key.start_ms, key.end_ms)
        if item is None or item.pending:
            return None
        rows = self.exchange.closed_rows(item, key.interval, key.start_ms, min(key.end_ms, item.gone_ms), now_ms)
        for fault in lacks:
            rows = drop_rows(rows, fault)
        if not rows:
            return None
        return build_zip(key.name, archive_csv(item, rows))


def parse_key(path: str) -> tuple[FileKey | None, bool]:
    """The file that a path names (None: no such file can exist), and whether its checksum is requested."""
    found = _KEY.match(path)
    if found is None:
        return None, False
    symbol, folder, monthly = found["symbol"], found["folder"], found["period"] == "monthly"
    interval = "1M" if folder == "1mo" else folder
    known = interval in _DAILY or (monthly and (interval in DURATIONS_MS or folder == "1mo"))
    if not known or found["stem"] != f"{symbol}-{folder}" or monthly != (found["day"] is None):
        return None, False
    try:
        start_ms = utc_ms(int(found["year"]), int(found["month"]), int(found["day"] or 1))
    except ValueError:
        return None, False
    end_ms = Grid("1M" if monthly else "1d").next(start_ms)
    name = path.rpartition("/")[2].removesuffix(".CHECKSUM")
    return FileKey(symbol, interval, name, start_ms, end_ms, monthly), found["checksum"] is not None


def build_zip(name: str, csv: str) -> bytes:
    """A ZIP with one CSV of the same stem. Deterministic: equal input gives equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        member = zipfile.ZipInfo(name.removesuffix(".zip") + ".csv", date_time=(2020, 1, 1, 0, 0, 0))
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, csv)
    return content.getvalue()


def corrupt(content: bytes) -> bytes:
    """`content` with its middle bytes inverted: it opens as a ZIP and fails its CRC or decompression."""
    middle, width = len(content) // 2, min(64, len(content) // 4)
    flipped = bytes(byte ^ 0xFF for byte in content[middle : middle + width])
    return content[:middle] + flipped + content[middle + width :]


def _found(body: bytes, *, wants_checksum: bool) -> Response:
    media_type = "binary/octet-stream" if wants_checksum else "application/zip"
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Response(body, media_type=media_type, headers={"ETag": f'"{etag}"'})


def _missing(path: str) -> Response:
    key = escape(path.removeprefix("/"))
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        f"<Message>The specified key does not exist.</Message><Key>{key}</Key></Error>"
    )
    return Response(xml, 404, media_type="application/xml")
