"""Reads archive files of the sandbox over HTTP."""

import csv
import hashlib
import io
import zipfile
from datetime import UTC, datetime

import httpx

ROOT = "/data/futures/um"
METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)


def metrics_file(symbol: str, day: str) -> str:
    return f"{ROOT}/daily/metrics/{symbol}/{symbol}-metrics-{day}.zip"


def funding_file(symbol: str, month: str) -> str:
    return f"{ROOT}/monthly/fundingRate/{symbol}/{symbol}-fundingRate-{month}.zip"


async def read(http: httpx.AsyncClient, path: str) -> list[list[str]]:
    """The CSV rows of a file; asserts that its checksum is right."""
    content = (await http.get(path)).raise_for_status().content
    assert await checksum(http, path) == hashlib.sha256(content).hexdigest()
    return unpack(content, path)


async def checksum(http: httpx.AsyncClient, path: str) -> str:
    """The digest in the file's .CHECKSUM."""
    text = (await http.get(f"{path}.CHECKSUM")).raise_for_status().text
    digest, name = text.split("  ")
    assert name == path.rpartition("/")[2] + "\n"
    return digest


def unpack(content: bytes, path: str) -> list[list[str]]:
    """The CSV rows of a ZIP, which has one member of the same stem."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [path.rpartition("/")[2].replace(".zip", ".csv")]
        return list(csv.reader(archive.read(archive.namelist()[0]).decode().splitlines()))


async def read_metrics(http: httpx.AsyncClient, symbol: str, day: str) -> list[list[str]]:
    """The rows of a file of metrics, without its header."""
    header, *rows = await read(http, metrics_file(symbol, day))
    assert ",".join(header) == METRICS_HEADER
    return rows


def day_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d")
