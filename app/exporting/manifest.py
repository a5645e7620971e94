"""The manifest of an export: what each file has, what was known of its rows, and by which it is proven later."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from app.domain.ledger import Ledger, Source
from app.domain.span import Span, Spans
from app.domain.verification import Verification
from app.exporting.plan import Piece, PlannedFile
from app.ports.export import ExportError, Format

NAME: Final = "manifest.json"
VERSION: Final = 1


class SpanEntry(msgspec.Struct, frozen=True):
    """A half-open span of open times in ms."""

    start: int
    end: int

    def span(self) -> Span:
        """The same as a Span."""
        return Span(self.start, self.end)


class HeldEntry(SpanEntry, frozen=True):
    """Rows that are held, and where they came from."""

    source: str


class VerifiedEntry(SpanEntry, frozen=True):
    """Rows that were compared with the exchange at the time `at` (ms) and were equal."""

    at: int


class Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the node knew of the rows of a piece when it was written, or at the past time that they are of.

    Nobody recorded what was verified and replaced at a past time: such a piece does not say it.
    """

    held: tuple[HeldEntry, ...]
    absent: tuple[SpanEntry, ...]
    missing: tuple[SpanEntry, ...]
    verified: tuple[VerifiedEntry, ...] | None = None
    revisions: int | None = None
    """How many rows of the series were ever replaced."""


class PieceEntry(msgspec.Struct, frozen=True):
    """The rows of one series in a file."""

    symbol: str
    interval: str
    window: SpanEntry
    rows: int
    known: Known


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file. `symbol` of its pieces is the series' name, such as BTCUSDT@markPrice."""

    path: str
    format: str
    float64: bool
    rows: int
    bytes: int
    sha256: str
    pieces: tuple[PieceEntry, ...]
    as_of: int | None = None
    """The past time in ms as of which the rows are; None: of when the file was written."""


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a folder."""

    version: int
    klinenode: str
    arguments: tuple[str, ...]
    """The command, or the request, that wrote the files last."""
    made: int
    files: tuple[FileEntry, ...]


_manifests: Final = msgspec.json.Decoder(Manifest)
_entries: Final = msgspec.json.Decoder(FileEntry)


def known_of(piece: Piece, ledger: Ledger, verification: Verification | None, revisions: int | None) -> Known:
    """What ledger and verification say of a piece's window; None is not recorded."""
    window = piece.window
    verified = None
    if verification is not None:
        parts = ((check.span.clip(window), check.at_ms) for check in verification.checks)
        verified = tuple(VerifiedEntry(*part, at_ms) for part, at_ms in parts if part)
    return Known(
        tuple(
            HeldEntry(*part, entry.source.value)
            for entry in ledger.entries
            if entry.source is not Source.ABSENT and (part := entry.span.clip(window))
        ),
        _entered(ledger.absent.clip(window)),
        _entered(ledger.known.complement(window)),
        verified,
        revisions,
    )


def held_of(known: Known) -> Spans:
    """The held spans."""
    return Spans(entry.span() for entry in known.held)


def missing_rows(entry: FileEntry, file: PlannedFile) -> int:
    """How many rows of a file are neither held nor proven absent."""
    return sum(
        piece.rows(span.span())
        for piece, written in zip(file.pieces, entry.pieces, strict=True)
        for span in written.known.missing
    )


def is_of(entry: FileEntry, file: PlannedFile, known: Sequence[Known], as_of_ms: int | None) -> bool:
    """Whether a file of an earlier export is what `file` would be as of a time, given what is known of its pieces."""
    pieces = tuple(
        (piece.series.name, piece.series.interval.code, SpanEntry(*piece.window), what)
        for piece, what in zip(file.pieces, known, strict=True)
    )
    return (entry.path, entry.format, entry.float64, entry.as_of) == (
        file.path,
        file.kind.format,
        file.kind.is_float,
        as_of_ms,
    ) and pieces == (tuple((piece.symbol, piece.interval, piece.window, piece.known) for piece in entry.pieces))


def entry_text(entry: FileEntry) -> bytes:
    """An entry as a line of the journal."""
    return msgspec.json.encode(entry)


def entry_of(line: bytes) -> FileEntry | None:
    """The entry of a line of the journal; None when a crash has cut it."""
    try:
        return _entries.decode(line)
    except msgspec.MsgspecError:
        return None


def manifest_text(entries: Iterable[FileEntry], klinenode: str, arguments: Sequence[str], made_ms: int) -> bytes:
    """The manifest as a file, its entries sorted by path."""
    files = tuple(sorted(entries, key=lambda entry: entry.path))
    made = Manifest(VERSION, klinenode, tuple(arguments), made_ms, files)
    return msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"


def manifest_of(text: bytes) -> Manifest:
    """The manifest of a file. Raises ExportError."""
    try:
        manifest = _manifests.decode(text)
    except msgspec.MsgspecError as error:
        raise ExportError(f"{NAME} is not the manifest of an export ({error}): export to another folder") from error
    if manifest.version != VERSION:
        raise ExportError(f"{NAME} has version {manifest.version}, which this klinenode does not know: upgrade it")
    if bad := [entry.path for entry in manifest.files if not _is_inside(entry)]:
        raise ExportError(f"{NAME} names a file outside of its folder or of no known format: {bad[0]}")
    return manifest


def _is_inside(entry: FileEntry) -> bool:
    parts = entry.path.split("/")
    return entry.format in set(Format) and all(part not in ("", ".", "..") for part in parts)


def _entered(spans: Spans) -> tuple[SpanEntry, ...]:
    return tuple(SpanEntry(*span) for span in spans)
