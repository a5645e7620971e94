"""Parquet and Arrow IPC files of one schema, in row groups and batches of a bounded number of rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from app.domain.series import Series
from app.domain.span import Span
from app.ports.export import READ_ROWS, ColumnType, FileKind, Format, Lines, ReadBatch
from infra.exporting.columns import LineParser, library, rows_of

GROUP_ROWS: Final = 50_000
"""The fewest rows of a row group, but for a file's last: a month of minutes, whose columns have 9 MB in memory."""
PARQUET_LEVEL: Final = 1  # of zstd
_ENCODINGS: Final = {
    ColumnType.TIME_MS: "DELTA_BINARY_PACKED",
    ColumnType.COUNT: "DELTA_BINARY_PACKED",
    ColumnType.PRICE: "PLAIN",
    ColumnType.AMOUNT: "PLAIN",
}
ARROW_CODEC: Final = "lz4"


class ParquetFile:
    """A Parquet file that is being written (app.ports.export.RowsFile)."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        self._parser = LineParser(kind)
        self._pending: list[Any] = []
        self._rows = 0
        pq = library().parquet
        self._writer = pq.ParquetWriter(path, self._parser.schema, **parquet_options(kind))

    def write(self, series: Series, lines: Lines) -> None:
        """Append rows. Raises ExportError when a value does not fit."""
        self._pending.append(self._parser.table(series, lines))
        self._rows += lines.rows
        if self._rows >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._pending:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(library().concat_tables(self._pending), row_group_size=self._rows)
        self._pending.clear()
        self._rows = 0


def parquet_options(kind: FileKind) -> dict[str, Any]:
    """How the columns of a shape are encoded: the smallest and fastest of the measured ways (docs/exports.md)."""
    types = dict(kind.shape.columns) | {"time": ColumnType.TIME_MS}
    words = ["symbol", "interval", *(name for name, type_ in types.items() if type_ is ColumnType.WORD)]
    return {
        "compression": "zstd",
        "compression_level": PARQUET_LEVEL,
        "use_dictionary": words,
        "column_encoding": {name: _ENCODINGS[type_] for name, type_ in types.items() if type_ in _ENCODINGS},
        "store_schema": False,  # otherwise symbols come back as dictionaries, which tools concatenate badly
    }


class ArrowFile:
    """An Arrow IPC file (not a stream, which few tools read) that is being written (app.ports.export.RowsFile)."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        pa = library()
        self._parser = LineParser(kind)
        options = pa.ipc.IpcWriteOptions(compression=ARROW_CODEC, use_threads=False, emit_dictionary_deltas=True)
        self._words: dict[str, list[str]] = {}
        self._writer = pa.ipc.new_file(path, self._parser.schema, options=options)

    def write(self, series: Series, lines: Lines) -> None:
        """Append rows. Raises ExportError when a value does not fit."""
        self._writer.write_table(self._with_all_words(self._parser.table(series, lines).combine_chunks()))

    def _with_all_words(self, table: Any) -> Any:
        """The table with dictionaries that begin with all words before: a file's may grow, and not be replaced."""
        pa = library()
        for place, field in enumerate(table.schema):
            if not pa.types.is_dictionary(field.type):
                continue
            values = table.column(place).cast(pa.string()).combine_chunks()
            words = self._words.setdefault(field.name, [])
            words += [word for word in values.unique().to_pylist() if word is not None and word not in words]
            dictionary = pa.array(words, pa.string())
            indices = pa.compute.index_in(values, value_set=dictionary)
            column = pa.DictionaryArray.from_arrays(indices, dictionary)
            table = table.set_column(place, field, column)
        return table

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def read(path: Path, kind: FileKind, series: Series, window: Span) -> Iterator[ReadBatch]:
    """The rows of a series in a Parquet or Arrow file; decimals are Decimal, or float."""
    names = kind.shape.names
    for batch in _batches(path, kind):
        at = [batch.column(name).to_pylist() for name in ("symbol", "interval", "open_time")]
        wanted = [
            number
            for number, (symbol, interval, open_ms) in enumerate(zip(*at, strict=True))
            if symbol == series.name and interval == series.interval.code and window.start_ms <= open_ms < window.end_ms
        ]
        if wanted:  # they follow each other
            yield ReadBatch(names, rows_of(batch.slice(wanted[0], len(wanted)), names))


def _batches(path: Path, kind: FileKind) -> Iterator[Any]:
    pa = library()
    if kind.format is Format.PARQUET:
        with pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=READ_ROWS)
        return
    with pa.OSFile(str(path)) as opened, pa.ipc.open_file(opened) as file:
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            for at in range(0, batch.num_rows, READ_ROWS):
                yield batch.slice(at, READ_ROWS)
