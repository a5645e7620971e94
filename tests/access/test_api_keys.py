"""API keys: how they are made and sent, and which files of them are refused, by line and without repeating it."""

import hashlib
import re

import pytest

from app.access.api_keys import KEYS_MAX, NO_KEY, ApiKeys, KeyFileError, caller_of, line_of, new_key

KEY = "k" * 64
DIGEST = hashlib.sha256(KEY.encode()).digest()
LINE = f"alice {DIGEST.hex()} 60"
OTHER = hashlib.sha256(b"other").hexdigest()


def test_a_new_key_has_the_form_of_the_exchanges_and_its_line_is_read_back() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert re.fullmatch("[A-Za-z0-9]{64}", key)
        line = line_of("alice", key, 60)
        assert key not in line
        found = ApiKeys.parse(f"{line}\n".encode()).find(hashlib.sha256(key.encode()).digest())
        assert found is not None
        assert (found.name, found.per_minute, found.row) == ("alice", 60, 0)


@pytest.mark.parametrize(("name", "per_minute"), [("", 1), ("a b", 1), ("é", 1), ("a" * 65, 1), ("a", 0), ("a", 10**8)])
def test_no_line_is_made_that_would_not_be_read(name: str, per_minute: int) -> None:
    with pytest.raises(ValueError):
        line_of(name, KEY, per_minute)


def test_comments_and_empty_lines_are_left_out() -> None:
    keys = ApiKeys.parse(f"# keys of 2026\n\n{LINE}\n  bob   {OTHER}  10 \r\n# end".encode())
    assert keys.names == {"alice", "bob"}
    assert keys.find(b"x" * 32) is None
    assert keys.find(NO_KEY) is None
    assert len(ApiKeys.parse(b"")) == 0


@pytest.mark.parametrize(
    ("content", "number"),
    [
        ("alice\n", 1),
        (f"{LINE} 5\n", 1),
        (f"{LINE}\nbob {KEY} 60\n", 2),
        (f"{LINE}\nbob {OTHER.upper()} 60\n", 2),
        (f"{LINE}\n\nbob {OTHER} 0\n", 3),
        (f"{LINE}\nbob {OTHER} -1\n", 2),
        (f"{LINE}\nbob {OTHER} ١٢\n", 2),
        (f"{LINE}\nbob {OTHER} 99999999\n", 2),
        (f"{LINE}\nbob! {OTHER} 1\n", 2),
        (f"{LINE}\nalice {OTHER} 1\n", 2),
        (f"{LINE}\nbob {DIGEST.hex()} 1\n", 2),
        (f"{LINE}\nbob {OTHER} 1", 2),
        ("".join(f"k{n} {hashlib.sha256(b'%d' % n).hexdigest()} 1\n" for n in range(KEYS_MAX + 1)), KEYS_MAX + 1),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_never_repeated(content: str, number: int) -> None:
    with pytest.raises(KeyFileError) as refused:
        ApiKeys.parse(content.encode())
    text = str(refused.value)
    assert f"line {number} " in f"{text} ".replace(":", " ")
    for word in content.split():
        assert len(word) < 16 or word not in text


def test_what_is_no_text_or_too_large_is_refused() -> None:
    with pytest.raises(KeyFileError, match="line 2 is not UTF-8"):
        ApiKeys.parse(b"\n\xff\n")
    with pytest.raises(KeyFileError, match="larger"):
        ApiKeys.parse(b"#" * 300_000)


def test_a_key_is_sent_in_one_of_two_headers() -> None:
    key, other = KEY.encode(), b"o" * 64
    assert caller_of([(b"host", b"x"), (b"x-mbx-apikey", key)]) == DIGEST
    for scheme in (b"Bearer", b"bearer", b"BEARER"):
        assert caller_of([(b"authorization", scheme + b" " + key)]) == DIGEST
    assert caller_of([(b"authorization", b"Bearer " + other), (b"x-mbx-apikey", key)]) == DIGEST
    for value in (b"", key[1:], key + b"k", key[1:] + b"\xff", b"x" * 10_000):
        assert caller_of([(b"x-mbx-apikey", value)]) == NO_KEY
    assert caller_of([(b"authorization", b"Basic " + key)]) == NO_KEY
    assert caller_of([]) == NO_KEY
