"""API keys: how one is made, how a client sends it, and how a file lists their SHA-256 and quotas.

A key is 64 random letters and digits (381 bits), too many to find it from its SHA-256 by trying. It has the form of the
exchange's keys, which some clients check.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

from app.ports.coordination import QUOTA_ROWS

KEY_CHARS: Final = 64
KEYS_MAX: Final = QUOTA_ROWS
"""Keys of one file: each has a row in which the processes count together."""
PER_MINUTE_MAX: Final = 10_000_000
FILE_BYTES_MAX: Final = 256 * 1024  # KEYS_MAX lines of 140 bytes, and as much again for comments
HEADER: Final = b"x-mbx-apikey"
NO_KEY: Final = b""
"""The caller of a request without a key, or with one that has not the form of a key."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ALPHABET: Final = string.ascii_letters + string.digits
_KEY: Final = re.compile(rb"[A-Za-z0-9]{64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER: Final = re.compile(r"[0-9]{1,8}")
_BEARER: Final = b"bearer "
_FORM: Final = "name sha256 requests_per_minute"


class KeyFileError(Exception):
    """The list of keys cannot be used; the message names the line and never repeats what stands there."""


class ApiKey(NamedTuple):
    """One key of the file; `row` is its number among the keys there."""

    name: str
    digest: bytes
    """The SHA-256 of the key."""
    per_minute: int
    row: int


class ApiKeys:
    """The keys of one version of the file."""

    def __init__(self, by_digest: Mapping[bytes, ApiKey], version: int) -> None:
        self._by_digest = by_digest
        self.version = version
        """A checksum of the file's content: rows of two versions are not the same keys."""

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The keys in the content of a file; `#` begins a comment line. Raises KeyFileError."""
        if len(content) > FILE_BYTES_MAX:
            raise KeyFileError(f"it is larger than {FILE_BYTES_MAX} bytes")
        found: dict[bytes, ApiKey] = {}
        names: set[str] = set()
        lines = content.split(b"\n")
        for number, raw in enumerate(lines, 1):
            line = _decoded(raw, number).strip()
            if not line or line.startswith("#"):
                continue
            if number == len(lines):
                raise KeyFileError(f"line {number} does not end: write a line break behind it, or all of it")
            key = _key_of(line, number, len(found))
            if key.name in names or key.digest in found:
                raise KeyFileError(f"line {number} repeats the name or the SHA-256 of a line before it")
            if len(found) == KEYS_MAX:
                raise KeyFileError(f"line {number} is one key too many: there may be {KEYS_MAX}")
            names.add(key.name)
            found[key.digest] = key
        return cls(found, zlib.crc32(content))

    def __len__(self) -> int:
        return len(self._by_digest)

    @property
    def digests(self) -> frozenset[bytes]:
        """The SHA-256 of every key."""
        return frozenset(self._by_digest)

    @property
    def names(self) -> frozenset[str]:
        """The name of every key."""
        return frozenset(key.name for key in self._by_digest.values())

    def find(self, caller: bytes) -> ApiKey | None:
        """The key whose SHA-256 is `caller`; None if there is none.

        The time this takes depends on SHA-256 sums only: of a key that is right in part it says nothing.
        """
        key = self._by_digest.get(caller)
        return key if key is not None and hmac.compare_digest(key.digest, caller) else None


NO_KEYS: Final = ApiKeys({}, 0)


def new_key() -> str:
    """A new random key."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(KEY_CHARS))


def line_of(name: str, key: str, per_minute: int) -> str:
    """The line of the file for a key. Raises ValueError, which says what is wrong."""
    if not NAME.fullmatch(name):
        raise ValueError("a name has up to 64 letters, digits, dots, dashes and underscores")
    if not 1 <= per_minute <= PER_MINUTE_MAX:
        raise ValueError(f"requests per minute are 1 to {PER_MINUTE_MAX}")
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()} {per_minute}"


def caller_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The SHA-256 of the key that a request's headers (names in lower case) have; NO_KEY without one.

    X-MBX-APIKEY comes before `Authorization: Bearer`, which a client may need for something else.
    """
    sent = bearer = b""
    for name, value in headers:
        if name == HEADER:
            sent = value
        elif name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            bearer = value[len(_BEARER) :].strip()
    key = sent or bearer
    return hashlib.sha256(key).digest() if _KEY.fullmatch(key) else NO_KEY


def _decoded(raw: bytes, number: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise KeyFileError(f"line {number} is not UTF-8 text") from None


def _key_of(line: str, number: int, row: int) -> ApiKey:
    words = line.split()
    if len(words) != 3:
        raise KeyFileError(f"line {number} has {len(words)} words; write `{_FORM}`")
    name, digest, per_minute = words
    if not NAME.fullmatch(name):
        raise KeyFileError(f"line {number}: a name has up to 64 letters, digits, dots, dashes and underscores")
    if not _SHA256.fullmatch(digest):
        raise KeyFileError(
            f"line {number}: the second word is no SHA-256 of 64 hex digits; the key itself does not belong there"
        )
    if not _NUMBER.fullmatch(per_minute) or not 1 <= int(per_minute) <= PER_MINUTE_MAX:
        raise KeyFileError(f"line {number}: requests per minute are a number from 1 to {PER_MINUTE_MAX}")
    return ApiKey(name, bytes.fromhex(digest), int(per_minute), row)
