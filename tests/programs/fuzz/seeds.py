"""Valid samples for every decoder; recorded samples are added where the recordings are at hand."""

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Final

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import DAY_MS, INTERVALS, M1
from app.domain.span import Span

OPEN_MS: Final = 1_793_491_200_000  # 2026-11-01 00:00 UTC: a Sunday, the first of a month
MONDAY_MS: Final = OPEN_MS + DAY_MS
FILE: Final = ArchiveFile("BTCUSDT", M1, Span(OPEN_MS, OPEN_MS + DAY_MS), is_monthly=False)
HEADER: Final = (
    b"open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    b"taker_buy_quote_volume,ignore\n"
)


def _row(code: str, number: int, *, is_empty: bool = False) -> list[object]:
    grid = INTERVALS[code].grid
    open_ms = grid.shift(grid.ceil(MONDAY_MS if code == "1w" else OPEN_MS), number)
    close_ms = grid.shift(open_ms, 1) - 1
    if is_empty:
        return [open_ms, "104.50", "104.50", "104.50", "104.50", "0", close_ms, "0", 0, "0", "0", "0"]
    texts = ["106750.10", "107727.40", "103300.00", "104508.00", "226051.863"]
    return [open_ms, *texts, close_ms, "23808393905.42780", 3_970_409, "112258.832", "11824212353.61190", "0"]


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def rest_bodies() -> list[bytes]:
    """Klines bodies of REST; the first byte chooses the requested interval."""
    made = [b"\x00[]"]
    for index, code in enumerate(INTERVALS):
        rows = [_row(code, number, is_empty=number == 1) for number in range(3)]
        made.append(bytes((index,)) + _compact(rows))
    return made


def frames() -> list[bytes]:
    """Frames of the market sockets; the first byte says whether the frame is text."""
    made: list[bytes] = []
    for code in ("1m", "1h", "3d", "1w", "1M"):
        open_ms, o, h, low, c, v, close_ms, q, n, taker, taker_quote, _ = _row(code, 0)
        k = {"t": open_ms, "T": close_ms, "s": "BTCUSDT", "i": code, "f": 1, "L": 9, "o": o, "c": c, "h": h, "l": low}
        k |= {"v": v, "n": n, "x": code == "1m", "q": q, "V": taker, "Q": taker_quote, "B": "0"}
        data = {"e": "kline", "E": OPEN_MS + 250, "s": "BTCUSDT", "k": k}
        made.append(b"\x00" + _compact({"stream": f"btcusdt@kline_{code}", "data": data}))
    trade = {"e": "aggTrade", "E": OPEN_MS, "s": "BTCUSDT", "a": 1, "p": "1.0", "q": "2", "m": True}
    made += [
        b"\x01" + made[0][1:],
        b"\x00" + _compact({"stream": "btcusdt@aggTrade", "data": trade}),
        b'\x01{"result":null,"id":7}',
        b'\x00{"result":["btcusdt@kline_1m"],"id":"seven"}',
        b'\x00{"error":{"code":4,"msg":"Too many subscriptions"}}',
        b'\x00{"code":2,"msg":"Invalid request: too many parameters","id":3}',
    ]
    return made


def csv_text(rows: int = 3) -> bytes:
    """The rows of an archive file in REST's form."""
    return b"".join(
        ",".join(map(str, _row("1m", number, is_empty=number == 1))).encode() + b"\n" for number in range(rows)
    )


def csv_files() -> list[bytes]:
    """Archive CSVs of the three eras; the first byte chooses grid (low half) and precision."""
    old = f"{OPEN_MS},5.233,5.238,5.229,5.233,0.0,{OPEN_MS + 59_999},0.0000,0,0.0,0.0000,0\n".encode()
    plain = f"{OPEN_MS + 60_000},5,6,4.5,5.2,12,{OPEN_MS + 119_999},60.5,3,7,35,0\n".encode()
    made = [b"\x00" + csv_text(), b"\x00" + HEADER + csv_text(), b"\x10" + old + plain, b"\x00" + HEADER]
    for index, code in enumerate(INTERVALS):
        made.append(bytes((index,)) + ",".join(map(str, _row(code, 0))).encode() + b"\r\n")
    return made


def zips() -> list[bytes]:
    """Archive ZIPs, and CSVs that the target has to pack first (first byte 1)."""
    made = [b"\x01" + csv_text(), b"\x01" + HEADER + csv_text()]
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        for name in (f"{FILE.name}.csv", "币安人生USDT.csv"):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", method) as archive:
                archive.writestr(zipfile.ZipInfo(name, (2026, 11, 2, 8, 30, 0)), csv_text(), method)
                archive.comment = b"none"
            made.append(b"\x00" + buffer.getvalue())
    return made


def checksums() -> list[bytes]:
    """Files with a SHA-256, in the form of sha256sum."""
    name = f"{FILE.name}.zip".encode()
    return [b"a1" * 32 + b"  " + name + b"\n", b"A1" * 32 + b"  " + name, b"0" * 64 + b" *" + name, b"<html>"]


def exchange_infos() -> list[bytes]:
    """Lists of symbols."""
    perpetual = {
        "symbol": "BTCUSDT", "pair": "BTCUSDT", "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_567_965_300_000, "status": "TRADING", "quoteAsset": "USDT", "pricePrecision": 2,
        "quantityPrecision": 3, "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10"}],
    }  # fmt: skip
    chinese = perpetual | {"symbol": "币安人生USDT", "pricePrecision": 7, "quantityPrecision": 0}
    quarter = perpetual | {"symbol": "BTCUSDT_261225", "contractType": "CURRENT_QUARTER", "status": ""}
    return [
        _compact({"timezone": "UTC", "serverTime": OPEN_MS, "rateLimits": [], "symbols": [perpetual, chinese]}),
        _compact({"symbols": [quarter | {"contractStatus": "SETTLING"}, {"symbol": "X"}]}),
        b'{"symbols":[]}',
    ]


def errors() -> list[bytes]:
    """Error bodies."""
    return [
        b'{"code":-1121,"msg":"Invalid symbol."}',
        b'{"msg":"parameter \'startTime\' is invalid.","code":-1130}',
        b'{"code":-1003,"msg":"Way too many requests; IP(1.2.3.4) banned until 1793491259262. Please use x."}',
        b"<html>bad gateway</html>",
    ]


def header_values() -> list[bytes]:
    """Values of Retry-After, Date and X-MBX-USED-WEIGHT-1M; the first byte chooses the header."""
    date = b"Sun, 01 Nov 2026 00:00:07 GMT"
    made = [b"\x00120", b"\x00" + date, b"\x00 5 ", b"\x01" + date, b"\x01Sunday, 01-Nov-26 00:00:07 GMT"]
    made += [b"\x01Sun Nov  1 00:00:07 2026", b"\x01Sun, 01 Nov 2026 00:00:07 +0130", b"\x021234", b"\x020"]
    return made


def query_strings() -> list[bytes]:
    """Query strings of klines requests."""
    return [
        b"symbol=BTCUSDT&interval=1m",
        b"symbol=btcusdt&interval=1M&limit=1500&startTime=0&endTime=9007199254740992",
        b"symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&interval=1d&only_final=false",
        b"interval=3d&symbol=ETHUSDT&startTime=1793491200000&endTime=1793491200000&limit=1&only_final=True",
        b"symbol=NOPE&interval=1s&limit=0&startTime=&endTime=-1&_=1&_=2",
    ]


def conditions() -> list[bytes]:
    """If-None-Match values."""
    return [b'"abc"', b'W/"abc"', b'"x", W/"abc" , "y"', b"*", b'"ab', b'"abc-gzip"', b""]


def encodings() -> list[bytes]:
    """Accept-Encoding values."""
    return [b"gzip", b"gzip, deflate, br", b"gzip;q=0", b"identity;q=0.5, *;q=0.1", b"x-gzip;q=1.000", b"*"]


def admin_bodies() -> list[bytes]:
    """Bodies for POST /v1/admin/backfill."""
    return [
        _compact({"symbols": ["BTCUSDT"], "intervals": ["1m", "1M"], "start": OPEN_MS, "end": OPEN_MS + DAY_MS}),
        _compact({"symbols": ["btcusdt"], "intervals": ["1d"], "start": "2024-01-31T00:00:00Z", "end": "2025-01-01"}),
        b'{"symbols":["BTCUSDT"],"intervals":["1m"],"start":"0001-01-01T00:00:00+23:59","end":"9999-12-31T23:59"}',
    ]


def server_times() -> list[bytes]:
    """Answers of /fapi/v1/time."""
    return [b'{"serverTime":1793491200000}', b'{"serverTime":"soon"}']


def recorded(folder: Path) -> dict[str, list[bytes]]:
    """The recorded samples in `folder` by target: a few rows each, so that mutations stay cheap."""
    found: dict[str, list[bytes]] = {}
    day = bytes((list(INTERVALS).index("1d"),))
    for path in sorted(folder.glob("rest/fapi_klines_1d_B*.json")):
        found.setdefault("rest_rows", []).append(day + _compact(_first_rows(json.loads(path.read_bytes()))))
    for path in sorted(folder.glob("klines_vision_1m/*.csv.gz")):
        with gzip.open(path, "rb") as stream:
            found.setdefault("archive_csv", []).append(b"\x00" + b"".join(stream.readlines()[:6]))
    for path in sorted(folder.glob("exchangeInfo/fapi_prod_2026*.json")):
        symbols = json.loads(path.read_bytes())["symbols"]
        found.setdefault("exchange_info", []).append(_compact({"symbols": symbols[:2] + symbols[-1:]}))
    for path in sorted(folder.glob("websocket/*.ws.*")):
        lines = [line for line in path.read_bytes().splitlines() if b"@kline_" in line and b"{" in line][:4]
        found.setdefault("stream_event", []).extend(b"\x00" + line[line.index(b"{") :] for line in lines)
    return found


def _first_rows(document: object) -> list[object]:
    """The first rows of a recorded klines answer, which some recorders wrapped in an object."""
    while isinstance(document, dict):
        document = next(value for value in document.values() if isinstance(value, list | dict))
    assert isinstance(document, list)
    return document[:5]
