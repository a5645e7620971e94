"""What a page answers to conditional requests and accepted encodings, decided without a server."""

import gzip

import pytest

from app.http.page import Page, accepts_gzip, matches
from tests.http.fakes import kline_body


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"x-gzip", True),
        (b"deflate, gzip", True),
        (b"gzip;q=0.5", True),
        (b"gzip ; q=1.000", True),
        (b"*", True),
        (b"br;q=1.0, *;q=0.1", True),
        (b"gzip, identity", True),
        (b"", False),
        (b"identity", False),
        (b"br", False),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"gzip;q=0.2, identity;q=0.9", False),
        (b"gzip;q=nonsense", False),
        (b"gzip;level=9", False),
        (b"gzip" + b", br" * 100, False),
    ],
)
def test_accept_encoding(accept: bytes, wants: bool) -> None:
    assert accepts_gzip(accept) is wants


@pytest.mark.parametrize(
    ("condition", "is_match"),
    [
        (b'"a"', True),
        (b'W/"a"', True),
        (b'"b", "a"', True),
        (b'"b",W/"a" , "c"', True),
        (b"*", True),
        (b" * ", True),
        (b'"b"', False),
        (b'"a-gzip"', False),
        (b"a", False),
        (b'"b, a"', False),
        (b'"*"', False),
        (b"", False),
        (b'"b",' * 2000 + b'"a"', False),
    ],
)
def test_if_none_match(condition: bytes, is_match: bool) -> None:
    assert matches(condition, b'"a"') is is_match


def test_equal_bytes_have_equal_tags_and_other_bytes_have_others() -> None:
    def tag(body: bytes) -> bytes:
        headers: dict[bytes, bytes] = dict(Page(body).reply("GET", [], 1).start["headers"])
        return headers[b"etag"]

    assert tag(b"[1]") == tag(b"[1]") != tag(b"[2]")


def test_a_small_page_is_not_compressed() -> None:
    page = Page(b"[]")
    reply = page.reply("GET", [(b"accept-encoding", b"gzip")], 1)
    assert reply.body["body"] == b"[]"
    assert b"content-encoding" not in dict(reply.start["headers"])
    assert page.size == 2


def test_the_gzip_variant_is_made_once_counted_and_has_its_own_tag() -> None:
    body = kline_body()
    page = Page(body)
    plain = page.reply("GET", [], 1)
    assert page.size == len(body)
    packed = page.reply("GET", [(b"accept-encoding", b"gzip")], 1)
    again = page.reply("GET", [(b"accept-encoding", b"gzip")], 1)
    assert gzip.decompress(packed.body["body"]) == body
    assert again.body["body"] is packed.body["body"]
    assert page.size == len(body) + len(packed.body["body"])
    assert dict(plain.start["headers"])[b"etag"] != dict(packed.start["headers"])[b"etag"]


@pytest.mark.parametrize(
    ("max_age_s", "stated"),
    [
        (7, b"public, max-age=5, stale-while-revalidate=2"),
        (4, b"public, max-age=4"),
        (0, b"public, max-age=0, must-revalidate"),
    ],
)
def test_cache_control(max_age_s: int, stated: bytes) -> None:
    assert dict(Page(b"[]").reply("GET", [], max_age_s).start["headers"])[b"cache-control"] == stated
