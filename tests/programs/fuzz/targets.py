"""One fuzz target for each decoder of bytes from outside, which must return a typed value or raise its one typed error.

A target takes any bytes and returns whether the decoder accepted them. It lets every other exception through, and
compares what was accepted with an independent reading of the same bytes.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import httpx

from app.binance import archive_csv, error_body, exchange_info, rest_rows, server_time, stream_event
from app.binance.error_body import BinanceError
from app.binance.exchange_info import PRECISION_MAX, BadExchangeInfo
from app.binance.stream_event import KlineEvent
from app.domain.interval import INTERVALS, M1
from app.domain.kline import OPEN_MS_MAX, BadKline, Kline, Precision, check, normalise
from app.http.admin import comparison, understood
from app.http.errors import ApiError
from app.http.page import accepts_gzip, matches
from app.http.params import INTEGER_MAX, PARAMETERS, TIME_MS_MAX, kline_query
from app.kinds.klines import KLINES
from app.querying.answer import LIMIT_MAX
from infra.binance import headers
from infra.binance.stand_down import retry_after_ms
from infra.binance.unpack import read_file
from infra.net.http import Answer
from tests.programs.fuzz import seeds, stream_cases
from tests.programs.fuzz.mutate import NASTY

_GRIDS: Final = tuple(interval.grid for interval in INTERVALS.values())
_PRECISIONS: Final = (Precision(2, 3), Precision(3, 1), Precision(0, 0), Precision(8, 8))
_NAMES: Final = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
_NOW_MS: Final = seeds.OPEN_MS


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder with its samples and the words of its language."""

    name: str
    run: Callable[[bytes], bool]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()

    @property
    def dictionary(self) -> Sequence[bytes]:
        """The words that mutations insert."""
        return (*NASTY, *self.words)


def _read(document: bytes | str) -> Any:
    """A document as another JSON reader sees it; unused fields may contain invalid UTF-8."""
    return json.loads(document if isinstance(document, str) else document.decode(errors="replace"), strict=False)


def _run_rest_rows(data: bytes) -> bool:
    grid, body = _GRIDS[(data[:1] or b"\0")[0] % len(_GRIDS)], data[1:]
    try:
        klines = rest_rows.decode(body, grid)
    except BadKline:
        return False
    said: list[list[Any]] = _read(body)
    assert [[*row[:6], *row[7:11]] for row in said] == [list(kline) for kline in klines], "read as something else"
    encoded = rest_rows.join(KLINES.encode(kline, grid.shift(kline.open_ms, 1) - 1) for kline in klines)
    assert json.loads(encoded) == [[*row[:11], "0"] for row in said], "written as something else"
    assert rest_rows.decode(encoded, grid) == klines
    return True


def _run_stream_event(data: bytes) -> bool:
    frame: bytes | str = data[1:]
    if data[:1] == b"\x01":
        frame = data[1:].decode(errors="surrogateescape")
    try:
        event = stream_event.decode(frame)
    except BadKline:
        return False
    if not isinstance(event, KlineEvent):
        return True
    said = _read(frame)["data"]
    k = said["k"]
    assert (event.symbol, event.interval.code, event.is_final) == (k["s"], k["i"], k["x"])
    assert event.event_ms == said.get("E", 0) <= OPEN_MS_MAX
    assert event.kline == tuple(k[name] for name in ("t", "o", "h", "l", "c", "v", "q", "n", "V", "Q"))
    assert k["T"] == event.interval.grid.shift(k["t"], 1) - 1
    assert check(event.kline, event.interval.grid) is event.kline
    if isinstance(frame, bytes) and event.symbol.isalnum():  # as every subscribed one is
        cut = stream_event.undecoded(frame, stream_event.head_of(event.symbol, event.interval))
        try:
            assert cut == stream_event.decode_any(frame), "cut at another place than decoding finds"
        except BadKline:
            assert cut is None
    return True


def _run_archive_csv(data: bytes) -> bool:
    first = (data[:1] or b"\0")[0]
    grid, precision = _GRIDS[first % 16 % len(_GRIDS)], _PRECISIONS[first // 16 % len(_PRECISIONS)]
    text = data[1:].decode("latin-1")
    try:
        klines = list(archive_csv.parse(text, grid, precision))
    except BadKline:
        return False
    lines = [line.rstrip("\r").split(",") for line in text.split("\n") if line.rstrip("\r")]
    if lines and lines[0][0][:1].isalpha():
        del lines[0]
    assert len(lines) == len(klines), "a row was lost or made up"
    for line, kline in zip(lines, klines, strict=True):
        assert [Decimal(text) for text in (*line[:6], *line[7:11])] == [Decimal(value) for value in kline]
        assert normalise(kline, precision) == kline
    return bool(klines)


def _packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{seeds.FILE.name}.csv"), content)
    return buffer.getvalue()


def _run_archive_zip(data: bytes) -> bool:
    content = _packed(data[1:]) if data[:1] == b"\x01" else data[1:]
    try:
        klines = read_file(io.BytesIO(content), seeds.FILE, M1.grid, _PRECISIONS[0]).rows
    except BadKline:
        return False
    opens = [kline.open_ms for kline in klines]
    assert opens == sorted(set(opens)), "not ascending"
    assert all(seeds.FILE.span.start_ms <= each < seeds.FILE.span.end_ms for each in opens)
    return True


def _run_checksum(data: bytes) -> bool:
    try:
        digest = archive_csv.checksum_of(data, f"{seeds.FILE.name}.zip")
    except BadKline:
        return False
    assert re.fullmatch("[0-9a-f]{64}", digest), "not a SHA-256"
    assert digest.encode() in data.lower()
    assert seeds.FILE.name.encode() in data
    return True


def _run_exchange_info(data: bytes) -> bool:
    try:
        symbols = exchange_info.decode(data)
    except BadExchangeInfo:
        return False
    said = json.loads(data)["symbols"]
    assert [symbol.name for symbol in symbols] == [entry["symbol"] for entry in said]
    zero = Kline(0, "1", "1", "1", "1", "0.5", "0.5", 1, "0", "0")
    for symbol in symbols:
        assert symbol.name.encode()
        assert symbol.is_wished({"USDT"}, {"PERPETUAL"}, _NOW_MS) in (True, False)
        for grid in _GRIDS:
            assert grid.floor(symbol.onboard_ms) <= symbol.onboard_ms
            assert grid.ceil(symbol.delivery_ms) >= symbol.delivery_ms
        assert max(map(len, map(str, normalise(zero, symbol.precision)))) <= 2 * PRECISION_MAX + 2
    return True


def _run_error_body(data: bytes) -> bool:
    error = error_body.decode(400, data)
    if error is None:
        return False
    said = _read(data)
    assert (error.code, error.msg) == (said["code"], said["msg"])
    assert json.loads(error.body()) == {"code": error.code, "msg": error.msg}
    until_ms = error_body.banned_until_ms(error.msg)
    assert until_ms is None or str(until_ms) in error.msg
    return True


_IMF_DATE: Final = re.compile(rb"\w{3}, (\d\d) (Jan|Nov) (20\d\d) (\d\d):(\d\d):(\d\d) GMT")


def _run_headers(data: bytes) -> bool:
    kind, value = data[:1], data[1:]
    if kind == b"\x00":
        text = value.decode("latin-1")
        until_ms = retry_after_ms(_NOW_MS, text)
        assert until_ms is None or until_ms <= TIME_MS_MAX
        if re.fullmatch("[0-9]{1,9}", text):
            assert until_ms == _NOW_MS + int(text) * 1_000
        return until_ms is not None
    if kind == b"\x01":
        date_ms = headers.date_ms(Answer(200, httpx.Headers([(b"date", value)]), b""))
        assert date_ms is None or 0 < date_ms <= TIME_MS_MAX
        if stated := _IMF_DATE.fullmatch(value):
            day, year, hour, minute, second = (int(stated[at]) for at in (1, 3, 4, 5, 6))
            if year >= 2018 and 1 <= day <= 28 and hour < 24 and minute < 60 and second < 60:
                moment = datetime(year, 1 if stated[2] == b"Jan" else 11, day, hour, minute, second, tzinfo=UTC)
                assert date_ms == int(moment.timestamp()) * 1_000
        return date_ms is not None
    weight = headers.used_weight(httpx.Headers([(b"x-mbx-used-weight-1m", value)]))
    assert weight is None or 0 <= weight < 10**9
    return weight is not None


def _symbol_of(text: str) -> str | None:
    return text.upper() if text.upper() in _NAMES else None


def _check_stated(status: int, text: bytes) -> None:
    assert status == 400
    assert text.decode()


def _run_kline_query(data: bytes) -> bool:
    try:
        query = kline_query(data, _symbol_of, only_final_default=True)
    except BinanceError as error:
        _check_stated(error.status, error.body())
        return False
    assert query.series.symbol in _NAMES
    assert 1 <= query.limit <= LIMIT_MAX
    assert query.start_ms is None or 0 <= query.start_ms <= TIME_MS_MAX
    assert query.end_ms is None or (query.start_ms or 0) <= query.end_ms <= TIME_MS_MAX
    names = [pair.partition(b"=")[0] for pair in data.split(b"&")]
    assert all(names.count(name.encode()) <= 1 for name in PARAMETERS)
    if data.isascii() and b"%" not in data and b"+" not in data:
        sent = dict(pair.partition(b"=")[::2] for pair in data.split(b"&"))
        assert query.limit == int(sent.get(b"limit", 500))
        assert query.start_ms == (None if b"startTime" not in sent else min(int(sent[b"startTime"]), TIME_MS_MAX))
        assert all(int(sent.get(name, 0)) <= INTEGER_MAX for name in (b"startTime", b"endTime"))
        assert query.series.interval.code.encode() == sent[b"interval"]
    return True


_ENTITY: Final = rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ENTITIES: Final = re.compile(rb"[ \t]*%b(?:[ \t]*,[ \t]*%b)*[ \t]*" % (_ENTITY, _ENTITY))


def _run_condition(data: bytes) -> bool:
    is_match = matches(data, b'"abc"')
    if len(data) <= 1_000 and _ENTITIES.fullmatch(data):
        tags = [tag.strip().removeprefix(b"W/") for tag in re.findall(_ENTITY, data)]
        assert is_match == (b'"abc"' in tags)
    else:
        assert not is_match or data.strip() == b"*" or b'"abc"' in data
    return is_match


def _run_accept_encoding(data: bytes) -> bool:
    is_wanted = accepts_gzip(data)
    assert not is_wanted or b"gzip" in data.lower() or b"*" in data
    if re.fullmatch(rb"(?:gzip|br|deflate)(?:, (?:gzip|br|deflate))*", data) and len(data) < 200:
        assert is_wanted == (b"gzip" in data)
    return is_wanted


def _run_admin_body(data: bytes) -> bool:
    try:
        series, span = understood(data, _symbol_of)
    except ApiError as error:
        _check_stated(error.status, error.text.encode())
        return False
    assert series
    assert comparison(data, _symbol_of) == (series, span, False)
    assert 0 <= span.start_ms < span.end_ms <= TIME_MS_MAX
    return True


def _run_server_time(data: bytes) -> bool:
    try:
        time_ms = server_time.decode(data)
    except server_time.BadServerTime:
        return False
    assert time_ms == _read(data)["serverTime"]
    assert 0 < time_ms <= TIME_MS_MAX
    return True


_K: Final = (*tuple(f'"{name}":'.encode() for name in "eEsktTsiochlvnxqVQB"), b'"stream":', b'"data":', b'"id":')
_INFO: Final = tuple(
    f'"{name}":'.encode()
    for name in ("symbols", "symbol", "onboardDate", "deliveryDate", "pricePrecision", "quantityPrecision", "status")
)
_ZIP: Final = (
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x07\x08",
    b"\xff\xff\xff\xff",
)
_DATES: Final = (
    b"GMT",
    b"+2400",
    b"-9999",
    b"Jan",
    b"Nov",
    b"Sun, ",
    b"31 Dec 9999",
    b"01 Jan 0001",
    b"24:00:00",
    b":",
)
_QUERY: Final = (*tuple(f"&{name}=".encode() for name in PARAMETERS), b"%E5%B8%81", b"1m", b"1M", b"BTCUSDT")

_STREAM: Final = (b'"stream":', b'"data":', b'"u":', b'"a":', b'"E":', b"@kline_", b"@depth", b"serverShutdown", b"[")
_COMMAND: Final = (b'"method":', b'"params":', b'"id":', b'"combined"', b"true", b"SUBSCRIBE", b"NaN", b"1e999", b"-0")
_SOCKET_URL: Final = (b"/ws", b"/stream", b"?streams=", b"/market", b"%2F", b"%00", b"&", b"+")

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target("rest_rows", _run_rest_rows, seeds.rest_bodies),
        Target("stream_event", _run_stream_event, seeds.frames, _K),
        Target("archive_csv", _run_archive_csv, seeds.csv_files, (seeds.HEADER,)),
        Target("archive_zip", _run_archive_zip, seeds.zips, _ZIP),
        Target("checksum", _run_checksum, seeds.checksums, (seeds.FILE.name.encode(), b".zip", b"  ")),
        Target("exchange_info", _run_exchange_info, seeds.exchange_infos, _INFO),
        Target("error_body", _run_error_body, seeds.errors, (b'"code":', b'"msg":', b"banned until ")),
        Target("headers", _run_headers, seeds.header_values, _DATES),
        Target("server_time", _run_server_time, seeds.server_times, (b'"serverTime":',)),
        Target("kline_query", _run_kline_query, seeds.query_strings, _QUERY),
        Target("if_none_match", _run_condition, seeds.conditions, (b'"abc"', b"W/", b'"')),
        Target("accept_encoding", _run_accept_encoding, seeds.encodings, (b"gzip", b";q=", b"identity", b"*")),
        Target("stream_frame", stream_cases.run_stream_frame, stream_cases.frame_seeds, _STREAM),
        Target("stream_command", stream_cases.run_stream_command, stream_cases.command_seeds, _COMMAND),
        Target("stream_target", stream_cases.run_stream_target, stream_cases.target_seeds, _SOCKET_URL),
        Target("admin_body", _run_admin_body, seeds.admin_bodies, (b'"start":', b'"9999-12-31"', b'"0001-01-01"')),
    )
}
