"""MarketStore's layout: the reply of its server to a query, in MessagePack, with six columns of each bucket.

pymarketstore makes DataFrames of it (`QueryReply.from_response`), and its Client writes their rows to a server.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from app.domain.series import Series
from app.domain.span import Span
from app.ports.export import READ_ROWS, TIMEFRAMES, FileKind, Lines, ReadBatch
from infra.exporting.columns import LineParser, library

NAMES: Final = ("Epoch", "Open", "High", "Low", "Close", "Volume")
COLUMNS: Final = ("open_time", "open", "high", "low", "close", "volume")
"""Ours of NAMES; the open time is in ms."""
TYPES: Final = ("i8", "f8", "f8", "f8", "f8", "f8")
CODES: Final = {"i8": "q", "f8": "d"}
"""By MarketStore's name of a type: that of Python's arrays. Both are little-endian wherever there are wheels."""
GROUP: Final = "OHLCV:Symbol/Timeframe/AttributeGroup"
S_MS: Final = 1_000


class MarketstoreFile:
    """A file that is being written (app.ports.export.RowsFile); its columns are in memory, 48 bytes a row."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        self._path = path
        self._parser = LineParser(kind._replace(is_float=True))
        self._columns = [bytearray() for _ in NAMES]
        self._lengths: dict[str, int] = {}

    def write(self, series: Series, lines: Lines) -> None:
        """Append rows. Raises ExportError when a value does not fit."""
        pa = library()
        table = self._parser.table(series, lines)
        epoch = pa.compute.divide(table.column("open_time"), S_MS)
        for column, values in zip(self._columns, (epoch, *(table.column(name) for name in COLUMNS[1:])), strict=True):
            for chunk in values.chunks:
                column += memoryview(chunk.buffers()[1])[8 * chunk.offset : 8 * (chunk.offset + len(chunk))]
        key = _key(series)
        self._lengths[key] = self._lengths.get(key, 0) + lines.rows

    def close(self) -> None:
        """Write everything."""
        starts, at = {}, 0
        for key, length in self._lengths.items():
            starts[key] = at
            at += length
        result = {
            "names": NAMES,
            "types": TYPES,
            "data": self._columns,
            "length": at,
            "startindex": starts,
            "lengths": self._lengths,
        }
        reply = {"responses": [{"result": result}], "timezone": "UTC", "version": "klinenode"}
        self._path.write_bytes(msgspec.msgpack.encode(reply))


def read(path: Path, kind: FileKind, series: Series, window: Span) -> Iterator[ReadBatch]:
    """The rows of a series in a file; the open time is in ms again."""
    result: dict[str, Any] = msgspec.msgpack.decode(path.read_bytes())["responses"][0]["result"]
    columns = []
    start = result["startindex"].get(_key(series), 0)
    end = start + result["lengths"].get(_key(series), 0)
    for type_, data in zip(result["types"], result["data"], strict=True):
        values = array(CODES[type_])
        values.frombytes(data)
        columns.append(values[start:end])
    rows = [
        (epoch * S_MS, *others)
        for epoch, *others in zip(*columns, strict=True)
        if window.start_ms <= epoch * S_MS < window.end_ms
    ]
    for at in range(0, len(rows), READ_ROWS):
        yield ReadBatch(COLUMNS, rows[at : at + READ_ROWS])


def _key(series: Series) -> str:
    return f"{series.name}/{TIMEFRAMES[series.interval.code]}/{GROUP}"
