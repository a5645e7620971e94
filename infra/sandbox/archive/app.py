"""data.binance.vision on loopback: files of klines, metrics and fundings, and checksums (binance-facts section 6)."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox.archive import funding, klines, metrics, quirks
from infra.sandbox.archive.files import FUNDING, KLINES, METRICS, FileKey, parse_path
from infra.sandbox.archive.zips import build_zip, corrupt
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FUNDING_KINDS, METRICS_KINDS, Fault, FaultBoard, Target
from infra.sandbox.journal import Journal
from infra.sandbox.render import Row
from infra.sandbox.rest import drop_rows
from infra.sandbox.universe import Instrument

FILES_BYTES_MAX = 64 * 1024 * 1024
_LACK_KINDS: Final = ("hole", "archive_missing_rows")


@dataclass(frozen=True, slots=True)
class Family:
    """What the files of a family hold: rows that begin with their time (ms), the CSV of such rows, faults of rows."""

    rows: Callable[[Exchange, Instrument, FileKey, int], list[Row]]
    csv: Callable[[Instrument, Sequence[Row]], str]
    fault_kinds: tuple[str, ...] = _LACK_KINDS


FAMILIES: Final = {
    KLINES: Family(klines.rows, klines.csv),
    METRICS: Family(metrics.rows, metrics.csv, (*_LACK_KINDS, *sorted(METRICS_KINDS))),
    FUNDING: Family(funding.rows, funding.csv, (*_LACK_KINDS, *sorted(FUNDING_KINDS))),
}


@dataclass(frozen=True, slots=True)
class FileFaults:
    """The faults of one request for a file: the injected ones, and those that the seed has drawn for the file."""

    board: FaultBoard
    target: Target
    now_ms: int
    drawn: Mapping[str, Fault]

    def take(self, kind: str) -> Fault | None:
        """The fault of `kind`, if there is one."""
        return self.board.take(kind, self.target, self.now_ms) or self.drawn.get(kind)


@dataclass(slots=True)
class Archive:
    """The ASGI application under /data."""

    exchange: Exchange
    faults: FaultBoard
    journal: Journal
    _files: OrderedDict[tuple[FileKey, tuple[Fault, ...]], bytes] = field(default_factory=OrderedDict)
    _files_bytes: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one GET or HEAD."""
        request = Request(scope, receive)
        path, now_ms = str(scope["path"]), self.exchange.clock.now_ms()
        key, wants_checksum = parse_path(path)
        target = Target(key.symbol if key else "", key.interval if key else "", path)
        if (slow := self.faults.take("archive_slow", target, now_ms)) is not None:
            await self.exchange.clock.sleep(slow.delay_s)
        if (error := self.faults.take("archive_5xx", target, now_ms)) is not None:
            await Response("", error.status or 503)(scope, receive, send)
            return
        body = await self._body(key, self._faults(key, target, now_ms), wants_checksum=wants_checksum) if key else None
        response = _missing(path) if body is None else _found(body, wants_checksum=wants_checksum)
        self.journal.write(now_ms, "archive", path, status=response.status_code, detail=request.method)
        await response(scope, receive, send)

    def _faults(self, key: FileKey, target: Target, now_ms: int) -> FileFaults:
        is_quirky = self.exchange.options.archive_quirks and key.family == METRICS
        item = self._item(key) if is_quirky else None
        return FileFaults(self.faults, target, now_ms, quirks.drawn(item, key, now_ms) if item else {})

    async def _body(self, key: FileKey, faults: FileFaults, *, wants_checksum: bool) -> bytes | None:
        if faults.take("archive_404") or faults.now_ms < key.published_ms:
            return None
        taken = tuple(fault for kind in FAMILIES[key.family].fault_kinds if (fault := faults.take(kind)))
        content = await self._file(key, faults.now_ms, taken)
        if content is None or not wants_checksum:
            return corrupt(content) if content is not None and faults.take("corrupt_zip") else content
        digest = hashlib.sha256(content).hexdigest()
        if faults.take("wrong_checksum"):
            digest = digest[::-1]
        return f"{digest}  {key.name}\n".encode()

    async def _file(self, key: FileKey, now_ms: int, faults: tuple[Fault, ...]) -> bytes | None:
        if (key, faults) in self._files:
            self._files.move_to_end((key, faults))
            return self._files[key, faults]
        content = await asyncio.to_thread(self._build, key, now_ms, faults)
        if content is not None and (key, faults) not in self._files:
            self._files[key, faults] = content
            self._files_bytes += len(content)
            while self._files_bytes > FILES_BYTES_MAX:
                self._files_bytes -= len(self._files.popitem(last=False)[1])
        return content

    def _build(self, key: FileKey, now_ms: int, faults: tuple[Fault, ...]) -> bytes | None:
        item, family = self._item(key), FAMILIES[key.family]
        if item is None or item.pending:
            return None
        rows = family.rows(self.exchange, item, key, now_ms)
        for fault in faults:
            if fault.kind in _LACK_KINDS:
                rows = drop_rows(rows, fault)
        if not rows:
            return None
        return build_zip(key.name, family.csv(item, quirks.changed(self.exchange, item, key, rows, faults)))

    def _item(self, key: FileKey) -> Instrument | None:
        return self.exchange.universe.find_ever(key.symbol, key.start_ms, key.end_ms)


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
