"""Seeded mutations of valid samples (bytes, tokens, splices), and the loop that feeds a target with them."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

SIZE_MAX: Final = 4_096  # bytes of one input; large inputs have their own tests
_TOKEN: Final = re.compile(rb'"[^"]*"|-?[0-9.]+|[A-Za-z_]+|[\[\]{},:=&%]')
_CHANGES_MAX: Final = 4

NASTY: Final = (
    b"null", b"true", b"NaN", b"Infinity", b"-0", b"-1", b"0", b"00", b"0.0", b"1.0", b"1e5", b"1e400", b"1_000",
    b"+5", b" 5", b"0x10", b".5", b"5.", b"9007199254740993", b"9223372036854775808", b"18446744073709551616",
    b"1" + b"0" * 30, b"9" * 400, b"140737488355328", b"140737488355329", b"253402300800000", b"-62135596800001",
    b'""', b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\x00", b"\xe2\x80\xa8", "٣".encode(), "²".encode(), b"[", b"]",
    b"[[[[[[[[", b"{}", b"{", b"}", b",", b",,", b"\r\n", b"\n", b"%", b"%00", b"%ff", b"%zz", b"&", b"=", b"+", b";",
)  # fmt: skip


def mutated(data: bytes, rng: Random, words: Sequence[bytes], others: Sequence[bytes], size_max: int) -> bytes:
    """`data` with one to four changes."""
    for _ in range(rng.randint(1, _CHANGES_MAX)):
        data = rng.choice(_CHANGES)(data, rng, words, others)[:size_max]
    return data


def _byte(data: bytes, rng: Random, _words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + bytes((rng.randrange(256),)) + data[at + rng.randrange(2) :]


def _bit(data: bytes, rng: Random, _words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]


def _cut(data: bytes, rng: Random, _words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + data[at + rng.randrange(1, 40) :] if rng.random() < 0.8 else data[:at]


def _repeat(data: bytes, rng: Random, _words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    end = at + rng.randrange(1, 200)
    return data[:end] + data[at:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _word(data: bytes, rng: Random, words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(words) + data[at:]


def _token(data: bytes, rng: Random, words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    """Replace one token by a word or another token; a quoted text keeps its quotes half of the time."""
    tokens = list(_TOKEN.finditer(data))
    if not tokens:
        return data
    old = rng.choice(tokens)
    new = rng.choice(words) if rng.random() < 0.7 else rng.choice(tokens)[0]
    if old[0][:1] == b'"' and new[:1] != b'"' and rng.random() < 0.5:
        new = b'"' + new + b'"'
    return data[: old.start()] + new + data[old.end() :]


def _number(data: bytes, rng: Random, _words: Sequence[bytes], _others: Sequence[bytes]) -> bytes:
    """Replace one digit: the result stays well-formed and may be accepted."""
    digits = [at for at, code in enumerate(data) if 48 <= code <= 57]
    if not digits:
        return data
    at = rng.choice(digits)
    return data[:at] + b"%d" % rng.randrange(10) + data[at + 1 :]


def _splice(data: bytes, rng: Random, _words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    at = rng.randint(0, len(other))
    return data[: rng.randint(0, len(data))] + other[at : at + rng.randrange(1, 400)]


_CHANGES: Final = (_byte, _bit, _cut, _repeat, _word, _token, _token, _number, _number, _splice)


class Failure(NamedTuple):
    """An input that made a target raise, and the exception."""

    data: bytes
    error: Exception


class Hunt(NamedTuple):
    """The result of a loop: the numbers of inputs and of accepted ones, and the failure that ended it."""

    executions: int
    accepted: int
    failure: Failure | None


def hunt(run: Callable[[bytes], bool], seeds: Sequence[bytes], words: Sequence[bytes], runs: int, seed: int) -> Hunt:
    """Feed `run` with `runs` mutations of `seeds`; accepted mutations are mutated further."""
    rng = Random(seed)
    pool, accepted = list(seeds), 0
    for number in range(runs):
        data = mutated(rng.choice(pool), rng, words, seeds, SIZE_MAX)
        try:
            is_accepted = run(data)
        except Exception as error:  # noqa: BLE001  any exception is a finding
            return Hunt(number + 1, accepted, Failure(data, error))
        if is_accepted:
            accepted += 1
            pool[len(seeds) :] = [*pool[len(seeds) :], data][-64:]
    return Hunt(runs, accepted, None)
