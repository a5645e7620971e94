"""Lines parsed column by column into Arrow tables, with one explicit schema for every file of a shape."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from app.domain.series import Series
from app.ports.export import ColumnType, ExportError, FileKind, Lines, Shape

if TYPE_CHECKING:
    import pyarrow

PRICE_DIGITS: Final = (28, 10)
AMOUNT_DIGITS: Final = (36, 16)
"""Precision and scale. With 38 digits there is no room for a sum; with one scale for all, DuckDB rounds no file."""
INSTALL: Final = "pyarrow is not installed: run `make setup` in the folder of klinenode, or `pip install pyarrow`"
SHOWN_MAX: Final = 64  # characters of a value that does not fit


def library() -> Any:
    """The module pyarrow, which is imported when the first file needs it: it takes 60 MB. Raises ExportError."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ExportError(f"{INSTALL}; --format csv and sqlite need nothing") from error
    return pyarrow


def schema_of(shape: Shape, *, is_float: bool) -> "pyarrow.Schema":
    """Symbol, interval, the columns of `shape`, and `time`: the open time as a timestamp."""
    pa = library()
    word = pa.dictionary(pa.int32(), pa.string())
    fields = [("symbol", word), ("interval", word)]
    fields += [(name, _arrow_type(type_, is_float=is_float)) for name, type_ in shape.columns]
    return pa.schema([*fields, ("time", pa.timestamp("ms", tz="UTC"))])


def _arrow_type(column: ColumnType, *, is_float: bool) -> "pyarrow.DataType":
    pa = library()
    match column:
        case ColumnType.TIME_MS | ColumnType.COUNT:
            return pa.int64()
        case ColumnType.WORD:
            return pa.string()
        case ColumnType.PRICE:
            return pa.float64() if is_float else pa.decimal128(*PRICE_DIGITS)
        case ColumnType.AMOUNT:
            return pa.float64() if is_float else pa.decimal128(*AMOUNT_DIGITS)


class LineParser:
    """Parses lines of one shape into tables of one schema."""

    def __init__(self, kind: FileKind) -> None:
        self._pa = library()
        self._shape, self._is_float = kind.shape, kind.is_float
        self.schema = schema_of(kind.shape, is_float=kind.is_float)
        padding = [f"-{number}" for number in range(kind.shape.ending.count(b","))]
        csv = self._pa.csv
        self._parse = csv.ParseOptions(quote_char=False, double_quote=False)
        columns = [*kind.shape.names, *padding]
        self._names = columns
        self._convert = csv.ConvertOptions(
            column_types={name: _arrow_type(type_, is_float=kind.is_float) for name, type_ in kind.shape.columns},
            include_columns=kind.shape.names,
            null_values=[""],
            strings_can_be_null=True,
        )

    def table(self, series: Series, lines: Lines) -> "pyarrow.Table":
        """The rows of `lines`. Raises ExportError for a value that does not fit its column; it is never rounded."""
        pa = self._pa
        # in one block: measured, several smaller ones cost a fifth more, here and when the table is written
        read = pa.csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(lines.text) + 1)
        try:
            parsed = pa.csv.read_csv(pa.BufferReader(lines.text), read, self._parse, self._convert)
        except pa.ArrowInvalid as error:
            raise ExportError(self._misfit(series, lines) or f"rows of {series} cannot be parsed: {error}") from error
        assert parsed.num_rows == lines.rows, "each line is a row"
        columns = [_repeated(pa, text, lines.rows) for text in (series.name, series.interval.code)]
        columns += parsed.columns
        columns.append(parsed.column("open_time").cast(self.schema.field("time").type))
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _misfit(self, series: Series, lines: Lines) -> str | None:
        """The first value that does not fit its column, in words."""
        digits = {ColumnType.PRICE: PRICE_DIGITS, ColumnType.AMOUNT: AMOUNT_DIGITS}
        for line in lines.text.decode(errors="replace").split("\n"):
            values = line.split(",")
            for value, (name, type_) in zip(values, self._shape.columns, strict=False):
                if value and type_ in digits and not _fits(value, *digits[type_]):
                    precision, scale = digits[type_]
                    return (
                        f"{name} of {series} at {values[0]} is {value[:SHOWN_MAX]}, which does not fit "
                        f"decimal({precision},{scale}): export it as CSV or SQLite, which keep every digit"
                    )
        return None


def _repeated(pa: Any, text: str, rows: int) -> "pyarrow.DictionaryArray":
    zeros = pa.Array.from_buffers(pa.int32(), rows, [None, pa.py_buffer(bytes(4 * rows))])
    return pa.DictionaryArray.from_arrays(zeros, pa.array([text]))


def _fits(text: str, precision: int, scale: int) -> bool:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return False
    whole, _, decimals = f"{value:f}".lstrip("-").partition(".")
    return len(decimals) <= scale and len(whole.lstrip("0")) <= precision - scale


def rows_of(batch: "pyarrow.RecordBatch", names: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of a batch, as Python's values, in the order of `names`."""
    return list(zip(*(batch.column(name).to_pylist() for name in names), strict=True))
