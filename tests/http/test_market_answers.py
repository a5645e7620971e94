"""Market data beside klines: what is sent to clients, errors, and what is refused."""

import gzip
from collections.abc import AsyncIterator

import pytest

from app.domain.reason import Reason
from app.http.refused import REFUSED
from app.market.endpoints import ENDPOINTS
from app.ports.errors import BucketFull, StandDown, UpstreamAway, UpstreamGarbage, UpstreamUnavailable
from app.querying.statistics import HeldAnswer
from tests.http.fakes import NOW_MS, Node, served, wire
from tests.http.market import DEPTH, LARGE

KEY = "k" * 64


@pytest.fixture
async def port(node: Node) -> AsyncIterator[int]:
    node.market.body, node.market.fresh_ms, node.market.thrifty_ms = LARGE, 60_000, 60_000
    async with served(node.app) as port:
        yield port


async def test_an_answer_has_a_tag_a_packed_form_and_an_age_it_may_reach(port: int, node: Node) -> None:
    plain = await wire(port, DEPTH)
    packed = await wire(port, DEPTH, headers=[("Accept-Encoding", "gzip")])
    assert plain.body == gzip.decompress(packed.body) == LARGE
    assert plain.headers["cache-control"] == "public, max-age=56, stale-while-revalidate=2"
    assert plain.headers["x-mbx-used-weight-1m"] == "1"
    assert plain.headers["content-type"] == "application/json"
    node.clock.ms += 30_000
    again = await wire(port, DEPTH, headers=[("If-None-Match", plain.headers["etag"])])
    assert (again.status, again.body, again.headers["cache-control"]) == (
        304,
        b"",
        "public, max-age=26, stale-while-revalidate=2",
    )
    head = await wire(port, DEPTH, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(LARGE)))
    assert len(node.market.asked) == 1


async def test_rows_from_the_archive_are_named_in_every_form_of_the_answer(port: int, node: Node) -> None:
    target, named = "/futures/data/openInterestHist?symbol=BTCUSDT&period=5m", "30; 1700000100000-1700008800000"
    node.statistics.answer = HeldAnswer(LARGE, 15_000, named)
    plain = await wire(port, target)
    assert (plain.status, plain.body) == (200, LARGE)
    etag = ("If-None-Match", plain.headers["etag"])
    again = await wire(port, target, headers=[etag])
    packed = await wire(port, target, headers=[("Accept-Encoding", "gzip")])
    head = await wire(port, target, method="HEAD")
    assert (again.status, packed.headers["content-encoding"], head.body) == (304, "gzip", b"")
    for answer in (plain, again, packed, head):
        assert answer.headers["x-archive-rows"] == named
        assert answer.headers["access-control-expose-headers"] == "X-Archive-Rows"
    assert node.market_pages.misses == 1
    node.statistics.answer = HeldAnswer(LARGE, 15_000, "")
    node.clock.ms += 15_000
    assert not {"x-archive-rows", "access-control-expose-headers"} & (await wire(port, target)).headers.keys()


async def test_answers_printed_by_an_earlier_rule_are_dropped(node: Node) -> None:
    async with node.client() as client:
        paths = ["/futures/data/openInterestHist", "/futures/data/takerlongshortRatio"]
        targets = [f"{path}?symbol={symbol}&period=5m" for path in paths for symbol in ("BTCUSDT", "ETHUSDT")]
        for target in [*targets, DEPTH]:
            await client.get(target)
        asked = len(node.market.asked)
        node.market_pages.drop({paths[0]}, "BTCUSDT")
        for target in [*targets, DEPTH]:
            await client.get(target)
    assert [question.query_string for question in node.market.asked[asked:]] == ["symbol=BTCUSDT&period=5m"]
    assert node.market_pages.bytes == sum(each.cost() for each in node.market_pages._entries.values())


async def test_a_refusal_of_the_exchange_is_given_in_its_own_words_for_a_while(port: int, node: Node) -> None:
    node.market.status, node.market.body = 400, b'{"msg":"parameter \'period\' is invalid.","code":-1130}'
    target = "/futures/data/openInterestHist?symbol=BTCUSDT&period=7m"
    for _ in range(2):
        answer = await wire(port, target)
        assert (answer.status, answer.body) == (400, node.market.body)
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
    assert len(node.market.asked) == 1


@pytest.mark.parametrize(
    ("error", "retry_after", "reason"),
    [
        (StandDown(NOW_MS + 90_500, "banned"), "91", "stand-down"),
        (BucketFull(NOW_MS + 30_000, "used up"), "30", "weight"),
        (UpstreamAway(NOW_MS + 2_000, "silent"), "5", "exchange"),
        (UpstreamUnavailable("no"), "5", "exchange"),
        (UpstreamUnavailable("no", Reason.BUSY), "5", "busy"),
        (UpstreamUnavailable("no", Reason.NOT_HELD), "5", "not-held"),
        (UpstreamGarbage("no"), "5", "exchange"),
        (TimeoutError(), "5", "exchange"),
    ],
)
async def test_what_cannot_be_had_is_a_503_and_never_something_older(
    node: Node, error: Exception, retry_after: str, reason: str
) -> None:
    async with node.client() as client:
        await client.get(DEPTH)
        node.clock.ms += 60_000
        node.market.error = error
        for path, order in (("/fapi/v1/depth?symbol=BTCUSDT", ["code", "msg"]),
                            ("/futures/data/delivery-price?pair=BTCUSDT", ["msg", "code"])):  # fmt: skip
            node.clock.ms = NOW_MS
            node.market_pages.clear()
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, -1001)
            assert list(answer.json()) == order
            assert answer.headers["retry-after"] == retry_after
            assert answer.headers["x-klinenode-reason"] == reason
            assert answer.headers["x-mbx-used-weight-1m"] == "1"


async def test_something_unforeseen_is_a_500_in_binances_shape(node: Node) -> None:
    node.market.error = RuntimeError("a secret of the inside")
    async with node.client() as client:
        answer = await client.get(DEPTH)
    assert (answer.status_code, answer.json()["code"]) == (500, -1000)
    assert b"secret" not in answer.content


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_only_reading_is_offered(node: Node, path: str) -> None:
    async with node.client() as client:
        answer = await client.post(path)
    assert (answer.status_code, answer.json()["code"]) == (405, -5000)
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, methods in REFUSED.items() for method in methods]
)
async def test_what_needs_an_account_is_refused_as_binance_does(node: Node, path: str, method: str) -> None:
    async with node.client() as client:
        answer = await client.request(method, f"{path}?symbol=BTCUSDT&timestamp=1&signature=x")
        assert (answer.status_code, answer.content) == (401, b'{"code":-2014,"msg":"API-key format invalid."}')
        assert answer.headers["x-mbx-used-weight-1m"] == "1"
        answer = await client.request(method, path, headers={"X-MBX-APIKEY": KEY})
        assert answer.content == b'{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'
        assert answer.status_code == 401
    assert node.market.asked == []


async def test_a_path_says_all_that_it_takes(node: Node) -> None:
    async with node.client() as client:
        for path, allow in (("order", "GET, POST, PUT, DELETE, HEAD"), ("listenKey", "POST, PUT, DELETE")):
            answer = await client.options(f"/fapi/v1/{path}")
            assert (answer.status_code, answer.headers["allow"]) == (405, allow)


async def test_an_unknown_path_is_unknown(node: Node) -> None:
    async with node.client() as client:
        answer = await client.get("/fapi/v1/nonsense")
    assert (answer.status_code, answer.json()["code"]) == (404, -5000)
