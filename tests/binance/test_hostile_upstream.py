"""Any bytes an upstream may send: they cause one typed error, memory stays bounded, and no part of them is used."""

import asyncio
import gzip
import hashlib
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from app.domain.interval import M1, MINUTE_MS
from app.domain.kline import Precision
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.ports.errors import UpstreamError, UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import Priority
from infra.binance.archive import CHECKSUM_BYTES_MAX, ZIP_BYTES_MAX, BinanceArchive
from infra.binance.rest import TRIES_MAX_USER, BinanceRest
from infra.net import http as http_module
from infra.net.http import BODY_BYTES_MAX, ERROR_BYTES_MAX
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, HastyClock
from tests.net.loopback import Witness, listening, runtime, to
from tests.programs.fuzz.seeds import FILE

SERIES = Series(KLINES, "BTCUSDT", M1)
WINDOW = Span(START_MS, START_MS + 3 * MINUTE_MS)
MB = 1024 * 1024
ENDLESS_MB_MAX = 200  # a server that could send more was not stopped

Answer = Iterator[bytes]
"""The chunks that a server writes for one request, headers included."""


def row(minute: int = 0, **changes: object) -> list[object]:
    open_ms = START_MS + minute * MINUTE_MS
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
    values = (open_ms, "1.5", "1.5", "1.5", "1.5", "2", open_ms + 59_999, "3", 4, "1", "1.5", "0")
    return list((dict(zip(names, values, strict=True)) | changes).values())


GOOD = msgspec.json.encode([row(0), row(1), row(2)])


def answer(*headers: bytes, body: bytes = b"", status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"HTTP/" + version + b" " + status, *headers, b"", b"")) + body


def whole(body: bytes, *headers: bytes) -> bytes:
    return answer(b"content-length: %d" % len(body), *headers, body=body)


@asynccontextmanager
async def upstream(pieces: Callable[[str], Answer]) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that writes the given chunks and closes; yields its URL and, by request, the number of bytes written."""
    written: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            written.append(0)
            number = len(written) - 1
            for piece in pieces(head.decode().split(" ", 2)[1]):
                writer.write(piece)
                await writer.drain()
                written[number] += len(piece)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}", written


async def klines(pieces: Callable[[str], Answer]) -> tuple[Sequence[Any], list[int]]:
    clock, witness = HastyClock(), Witness()

    async with upstream(pieces) as (url, written):
        rest = BinanceRest(to(url), runtime(clock, witness), Upstream(clock, witness=witness).budget)
        try:
            return await rest.klines(SERIES, M1.grid, WINDOW, 3, Priority.USER), written
        finally:
            await rest.aclose()


async def refused(body: Callable[[str], Answer], error: type[UpstreamError] = UpstreamError) -> int:
    """Assert that requesting klines fails with `error`; return the peak memory in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(error):
            await klines(body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def endless(begin: bytes, piece: bytes) -> Callable[[str], Answer]:
    def pieces(_target: str) -> Answer:
        yield begin
        for _ in range(ENDLESS_MB_MAX * MB // len(piece)):
            yield piece
        pytest.fail(f"took {ENDLESS_MB_MAX} MB")

    return pieces


def endless_gzip() -> tuple[bytes, bytes]:
    """The start of a gzip stream, and a block of 1 MB of spaces that can follow it any number of times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    begin = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    return begin, packer.compress(b" " * MB) + packer.flush(zlib.Z_FULL_FLUSH)


async def test_a_good_answer_is_read_whatever_way_it_is_sent() -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (1, GOOD[at : at + 1]) for at in range(len(GOOD))) + b"0\r\n\r\n"
    for raw in (
        whole(GOOD),
        whole(GOOD, b"content-type: text/html; charset=latin-1"),
        whole(GOOD, b"content-type: nonsense"),
        whole(gzip.compress(GOOD, mtime=0), b"content-encoding: gzip"),
        answer(b"transfer-encoding: chunked", body=chunked),
        answer(body=GOOD),
        answer(body=GOOD, version=b"1.0"),
        answer(b"content-length: %d" % len(GOOD), body=GOOD, version=b"1.0"),
        whole(b"\n\t " + GOOD + b"\r\n"),
    ):
        found, _ = await klines(lambda _target, raw=raw: iter([raw]))  # type: ignore[misc]
        assert [kline.open_ms for kline in found] == [START_MS + minute * MINUTE_MS for minute in range(3)], raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 200 OK\r\n",
        b"garbage\r\n\r\n",
        b"\x00" * 1000,
        b"HTTP/1.1 99999 X\r\n\r\n",
        b"HTTP/1.1 abc X\r\n\r\n",
        answer(b"content-length: x", body=GOOD),
        answer(b"content-length: -5", body=GOOD),
        answer(b"content-length: 5", b"content-length: 6", body=GOOD),
        answer(b"content-length: 99999999999999999999", body=GOOD),
        answer(b"content-length: %d" % (len(GOOD) + 1), body=GOOD),
        answer(b"content-length: %d" % (len(GOOD) - 1), body=GOOD),
        answer(b"transfer-encoding: chunked", body=b"zz\r\n" + GOOD),
        answer(b"transfer-encoding: chunked", body=b"fffffffffffffffff\r\n" + GOOD),
        answer(b"transfer-encoding: chunked", body=b"5\r\n" + GOOD),
        answer(b"transfer-encoding: chunked", body=b"-1\r\n\r\n"),
        answer(b"transfer-encoding: nonsense", body=GOOD),
        whole(GOOD, b"content-encoding: gzip"),
        whole(gzip.compress(GOOD, mtime=0)[:-9], b"content-encoding: gzip"),
        whole(gzip.compress(GOOD, mtime=0), b"content-encoding: gzip, gzip"),
        whole(zlib.compress(GOOD), b"content-encoding: gzip"),
        whole(GOOD, b"content-encoding: deflate"),
        whole(gzip.compress(GOOD, mtime=0)),
        answer(b"bad header", body=GOOD),
        answer(b"x: a\x00b", body=GOOD),
        answer(b"location: http://127.0.0.1:9/", b"content-length: 0", status=b"302 Found"),
        answer(b"location: /fapi/v1/klines", b"content-length: 0", status=b"308 Permanent Redirect"),
        answer(b"content-length: 0", status=b"204 No Content"),
        answer(status=b"304 Not Modified"),
        answer(b"content-length: 0", status=b"206 Partial Content"),
        answer(b"upgrade: x", b"connection: upgrade", status=b"101 Switching Protocols"),
        answer(status=b"100 Continue") * 50,
    ],
    ids=lambda raw: raw[:60].decode("latin-1"),
)
async def test_what_is_no_answer_is_an_upstream_error(raw: bytes) -> None:
    assert await refused(lambda _target: iter([raw])) < 4 * MB


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"0", b'""', b"{}", b"true", b"[null]", b"[[]]", b"[{}]", b"[" * 100_000, b'{"a":' * 100_000,
        b"\xff\xfe" + GOOD, b"\xef\xbb\xbf" + GOOD, GOOD.decode().encode("utf-16"), GOOD + GOOD, GOOD[:-1],
        GOOD + b"\x00",
        GOOD.replace(b'"1.5"', b"NaN"), GOOD.replace(b'"1.5"', b"Infinity"), GOOD.replace(b'"1.5"', b"1.5"),
        GOOD.replace(b'"1.5"', b'"1.5\xff"'), GOOD.replace(b'"1.5"', b'"\\ud800"'), GOOD.replace(b'"1.5"', b'"1,5"'),
        GOOD.replace(b'"1.5"', b'"' + b"9" * 100_000 + b'"'), GOOD.replace(b",4,", b",4.0,"),
        GOOD.replace(b",4,", b",4e0,"),
        GOOD.replace(b",4,", b",-4,"), GOOD.replace(b",4,", b"," + b"9" * 100_000 + b","),
        GOOD.replace(b",4,", b"," + b"9" * 40 + b","), GOOD.replace(b",4,", b",null,"), GOOD.replace(b",4,", b",true,"),
        b'{"code":0,"code":-1121,"msg":"a","msg":"b"}', b'{"symbols":[]}', GOOD.replace(b"]]", b'],["more"]]'),
        b"<html>" + b"x" * 1_000_000,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)  # fmt: skip
async def test_a_body_that_is_no_kline_rows_is_garbage(body: bytes) -> None:
    assert await refused(lambda _target: iter([whole(body)]), UpstreamGarbage) < 8 * MB + 4 * len(body)


_WRONG: Final[tuple[object, ...]] = (None, True, 1.5, "", "x", [], {}, [1], -1, 10**25, "1e5", "١")


@pytest.mark.parametrize(
    ("field", "value"),
    [  # the last column has no meaning and may hold any text
        (field, value) for field in "tohlcvTqnVQB" for value in _WRONG if field != "B" or not isinstance(value, str)
    ],
)
async def test_a_wrong_type_in_any_field_is_garbage(field: str, value: object) -> None:
    body = msgspec.json.encode([row(0), row(1, **{field: value}), row(2)])
    with pytest.raises(UpstreamGarbage):
        await klines(lambda _target: iter([whole(body)]))


@pytest.mark.parametrize("encoding", ["plain", "chunked", "gzip", "no length"])
async def test_a_body_without_end_is_cut_off(encoding: str) -> None:
    piece = b" " * MB
    if encoding == "plain":
        pieces = endless(answer(b"content-length: 99999999999"), piece)
    elif encoding == "chunked":
        pieces = endless(answer(b"transfer-encoding: chunked"), b"%x\r\n%b\r\n" % (MB, piece))
    elif encoding == "no length":
        pieces = endless(answer(), piece)
    else:
        begin, more = endless_gzip()
        pieces = endless(answer(b"content-encoding: gzip", body=begin), more)
    peak = await refused(pieces, UpstreamGarbage)
    assert peak < BODY_BYTES_MAX + 16 * MB


async def test_a_bomb_of_gzip_is_unpacked_in_pieces() -> None:
    """One chunk from the network that unpacks to 128 MB must not be unpacked in one piece."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * MB) for _ in range(128)) + packer.flush()
    assert len(bomb) < MB
    peak = await refused(lambda _target: iter([whole(bomb, b"content-encoding: gzip")]), UpstreamGarbage)
    assert peak < BODY_BYTES_MAX + 32 * MB


async def test_an_error_without_end_is_cut_off() -> None:
    peak = await refused(endless(answer(status=b"404 Not Found"), b"x" * MB), UpstreamUnavailable)
    assert peak < 8 * MB + ERROR_BYTES_MAX


@pytest.mark.parametrize("piece", [b"x: " + b"y" * 1_000 + b"\r\n", b"z" * 1_000], ids=["lines", "a line"])
async def test_headers_without_end_are_cut_off(piece: bytes) -> None:
    begin = b"HTTP/1.1 200 OK\r\n" + (b"x: " if piece[:1] == b"z" else b"")
    assert await refused(endless(begin, piece), UpstreamUnavailable) < 4 * MB


async def test_an_answer_that_trickles_is_given_up_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "TOTAL_S_MAX", 0.2)
    gates: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            gates.append(asyncio.Event())
            writer.write(answer(b"content-length: 100000"))
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await gates[-1].wait()
        writer.close()

    clock, witness = HastyClock(), Witness()

    async with listening(serve) as port:
        budget = Upstream(clock, witness=witness).budget
        rest = BinanceRest(to(f"http://127.0.0.1:{port}"), runtime(clock, witness), budget)
        with pytest.raises(UpstreamUnavailable, match="no whole answer"):
            await rest.klines(SERIES, M1.grid, WINDOW, 3, Priority.USER)
        await rest.aclose()
    assert len(gates) == TRIES_MAX_USER


async def test_redirects_are_not_followed() -> None:
    asked: list[str] = []

    def pieces(target: str) -> Answer:
        asked.append(target)
        yield answer(b"location: /elsewhere", b"content-length: 0", status=b"301 Moved Permanently")

    await refused(pieces, UpstreamUnavailable)
    assert all(target.startswith("/fapi/v1/klines?") for target in asked)


def leftovers(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def archive_refuses(folder: Path, zip_pieces: Callable[[str], Answer], stated: bytes | None = None) -> int:
    """Assert that fetching a file fails and leaves no file behind; return the peak memory in bytes."""
    checksum = stated or f"{hashlib.sha256(b'').hexdigest()}  {FILE.name}.zip\n".encode()

    def pieces(target: str) -> Answer:
        return iter([whole(checksum)]) if target.endswith(".CHECKSUM") else zip_pieces(target)

    async with upstream(pieces) as (url, _):
        archive = BinanceArchive(to(url), runtime(HastyClock(), Witness()), folder=folder)
        tracemalloc.start()
        try:
            with pytest.raises((UpstreamGarbage, UpstreamUnavailable)):
                await archive.fetch(FILE, M1.grid, Precision(2, 3))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await archive.aclose()
            assert leftovers(folder) == []


@pytest.mark.parametrize("encoding", ["no length", "length", "gzip"])
async def test_an_archive_file_without_end_is_cut_off(tmp_path: Path, encoding: str) -> None:
    begin, piece = answer(b"content-length: 99999999999") if encoding == "length" else answer(), b"\0" * MB
    if encoding == "gzip":
        head, piece = endless_gzip()
        begin = answer(b"content-encoding: gzip", body=head)
    peak = await archive_refuses(tmp_path, endless(begin, piece))
    assert peak < 32 * MB < ZIP_BYTES_MAX, "it goes to disk, not to memory"


async def test_members_of_gzip_one_after_the_other_do_not_go_on_for_ever() -> None:
    piece = gzip.compress(b" ")
    assert (
        await refused(endless(answer(b"content-encoding: gzip", body=piece), piece * 1_000), UpstreamUnavailable)
        < 8 * MB
    )


@pytest.mark.parametrize(
    "stated",
    [b"", b"\xff" * 64, b"a" * 64, b"a" * CHECKSUM_BYTES_MAX, b" " * (CHECKSUM_BYTES_MAX + 1), b"\x00" * 100],
    ids=lambda stated: f"{len(stated)} {stated[:4]!r}",
)
async def test_a_checksum_file_of_any_bytes_is_garbage(tmp_path: Path, stated: bytes) -> None:
    assert await archive_refuses(tmp_path, lambda _target: iter([whole(b"PK")]), stated or b"\n") < 4 * MB
