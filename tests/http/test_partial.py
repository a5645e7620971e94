"""allow_partial: an incomplete answer states exactly what it lacks and cannot be taken for a complete one."""

import pytest

from app.domain.span import Span
from app.http.coverage_header import SPANS_MAX
from app.querying.answer import Shortfall
from tests.http.fakes import NOW_MS, Node, kline_body

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
PARTIAL = KLINES + "&allow_partial=true"
HOLES = (Span(1_000, 2_000), Span(3_000, 9_000))


def lacking(*missing: Span, is_newest_known: bool = True) -> Shortfall:
    return Shortfall(Span(0, 10_000), 12, 3, missing, 7, is_newest_known)


@pytest.mark.parametrize(
    ("shortfall", "stated"),
    [
        (None, "complete"),
        (
            lacking(*HOLES),
            "partial; missing=1000-2000,3000-9000; klines_missing=7; klines_held=12; klines_absent=3; window=0-10000",
        ),
        (
            lacking(is_newest_known=False),
            "partial; klines_missing=7; klines_held=12; klines_absent=3; window=0-10000; newest=unconfirmed",
        ),
    ],
)
async def test_an_answer_that_may_be_partial_says_what_it_is(shortfall: Shortfall | None, stated: str) -> None:
    node = Node()
    node.query.shortfall = shortfall
    async with node.client() as client:
        for _ in range(2):
            answer = await client.get(PARTIAL)
            assert (answer.status_code, answer.headers["x-klinenode-coverage"]) == (200, stated)
            assert answer.headers["access-control-expose-headers"] == "X-Klinenode-Coverage"
        assert "x-klinenode-coverage" not in (await client.get(KLINES)).headers
    assert all(query.allow_partial for query in node.query.asked[:-1])


async def test_however_many_spans_are_missing_the_header_is_short() -> None:
    node = Node()
    node.query.shortfall = lacking(*(Span(NOW_MS + 2 * each, NOW_MS + 2 * each + 1) for each in range(SPANS_MAX + 9)))
    async with node.client() as client:
        stated = (await client.get(PARTIAL)).headers["x-klinenode-coverage"]
    assert stated.count(",") == SPANS_MAX - 1
    assert "; more=9; " in stated
    assert len(stated) < 1_000


async def test_a_partial_answer_is_never_kept_nor_confirmed() -> None:
    """It has no ETag, so no cache can take it for the complete answer, and `If-None-Match: *` matches nothing."""
    node = Node()
    node.query.body, node.query.shortfall = kline_body(), lacking(*HOLES)
    async with node.client() as client:
        for headers in ({}, {"If-None-Match": "*"}, {"If-None-Match": '"x"'}):
            answer = await client.get(PARTIAL, headers=headers)
            assert (answer.status_code, answer.content) == (200, kline_body())
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers
            assert answer.headers["x-mbx-used-weight-1m"] == "1"
        head = await client.head(PARTIAL)
        assert (head.status_code, head.content, "x-klinenode-coverage" in head.headers) == (200, b"", True)
        assert (node.pages.entries, len(node.query.asked)) == (0, 4)
        node.query.shortfall = None
        whole = await client.get(PARTIAL)
        assert whole.headers["x-klinenode-coverage"] == "complete"
        again = await client.get(PARTIAL, headers={"If-None-Match": whole.headers["etag"]})
        assert (again.status_code, again.headers["x-klinenode-coverage"]) == (304, "complete")
        packed = await client.get(PARTIAL, headers={"Accept-Encoding": "gzip"})
        assert (packed.headers["content-encoding"], packed.headers["x-klinenode-coverage"]) == ("gzip", "complete")
    assert node.pages.hits == 2


async def test_a_page_is_not_confirmed_once_the_whole_cannot_be_had() -> None:
    """The client's copy was right once; the node cannot tell whether it still is: neither 304 nor a complete 200."""
    node = Node()
    node.query.valid_until_ms = NOW_MS + 1_000
    async with node.client() as client:
        first = await client.get(PARTIAL)
        tag = {"If-None-Match": first.headers["etag"]}
        assert (await client.get(PARTIAL, headers=tag)).status_code == 304
        node.clock.ms += 1_000
        node.query.shortfall = lacking(*HOLES)
        answer = await client.get(PARTIAL, headers=tag)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize(("text", "status"), [("1", 200), ("False", 200), ("maybe", 400), ("", 400)])
async def test_allow_partial_is_a_truth(text: str, status: int) -> None:
    async with Node().client() as client:
        answer = await client.get(f"{KLINES}&allow_partial={text}")
    assert answer.status_code == status
    assert ("x-klinenode-coverage" in answer.headers) is (text == "1")


async def test_the_documentation_names_the_parameter_and_the_header() -> None:
    async with Node().client() as client:
        klines = (await client.get("/openapi.json")).json()["paths"]["/fapi/v1/klines"]["get"]
    assert any(each["name"] == "allow_partial" and not each["schema"]["default"] for each in klines["parameters"])
    assert "X-Klinenode-Coverage" in klines["responses"]["200"]["headers"]
