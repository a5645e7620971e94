"""Market data beside klines: equal questions share one request, answers are cached while valid, errors, forwarding."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance.error_body import BinanceError, invalid_symbol
from app.domain.reason import Reason
from app.http import market_pages
from app.http.forward import answer_by
from app.http.market_pages import PAGE_SHARE_MAX, Kept, MarketPages
from app.http.market_params import question_of
from app.http.refused import REFUSED
from app.market.endpoints import ENDPOINTS, Endpoint, Question
from app.market.market_source import Fetched
from app.ports.errors import BucketFull, StandDown, UpstreamAway, UpstreamGarbage, UpstreamUnavailable
from app.querying.statistics import HeldAnswer
from tests.coordination.local_lines import LocalWriterRpc
from tests.http.fakes import NOW_MS, FakeLine, ManualClock, Node, served, wire

DEPTH = "/fapi/v1/depth?symbol=BTCUSDT"
LARGE = b'{"a":"%b"}' % (b"0123456789" * 500)
KEY = "k" * 64


@pytest.fixture
def node() -> Node:
    node = Node()
    node.symbols.info = b"{}"  # the list of symbols was read
    return node


# --- one canonical form for each question ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/fapi/v1/depth?symbol=btcusdt", "symbol=BTCUSDT&limit=500"),
        ("/fapi/v1/depth?limit=0500&nonsense=1&symbol=BTCUSDT", "symbol=BTCUSDT&limit=500"),
        ("/fapi/v1/premiumIndex?timestamp=1&signature=x", ""),
        ("/fapi/v1/premiumIndex?symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt",
         "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"),
        ("/fapi/v1/fundingInfo?symbol=NONSENSE", ""),
        ("/fapi/v1/premiumIndex?symbol=BTCUSD_PERP", "symbol=BTCUSD_PERP"),
        ("/fapi/v1/indexPriceKlines?pair=btcusd&interval=1M&limit=5", "pair=BTCUSD&interval=1M&limit=5"),
        ("/fapi/v1/markPriceKlines?interval=1m&symbol=BTCUSDT&startTime=0&endTime=99999999999999999",
         None),
        ("/fapi/v1/markPriceKlines?interval=1m&symbol=BTCUSDT&startTime=00&endTime=9007199254740992",
         "symbol=BTCUSDT&interval=1m&startTime=0&endTime=9999999999999&limit=500"),
        ("/fapi/v1/fundingRate", ""),
        ("/fapi/v1/fundingRate?limit=10", "limit=10"),
        ("/fapi/v1/assetIndex?symbol=btcusd", "symbol=BTCUSD"),
        ("/futures/data/basis?pair=BTCUSDT&contractType=PERPETUAL&period=5m",
         "pair=BTCUSDT&contractType=PERPETUAL&period=5m"),
    ],
)  # fmt: skip
async def test_what_means_the_same_is_asked_in_one_form(node: Node, asked: str, sent: str | None) -> None:
    async with node.client() as client:
        answer = await client.get(asked)
    assert [question.query_string for question in node.market.asked] == ([] if sent is None else [sent])
    assert answer.status_code == (400 if sent is None else 200)


async def test_requests_that_mean_the_same_cost_one(node: Node) -> None:
    async with node.client() as client:
        for query in ("symbol=BTCUSDT", "symbol=btcusdt", "symbol=BTCUSDT&limit=500", "recvWindow=5&symbol=BTCUSDT"):
            assert (await client.get(f"/fapi/v1/depth?{query}")).status_code == 200
        await client.get("/fapi/v1/depth?symbol=ETHUSDT")
    assert len(node.market.asked) == 2


def missing(name: str) -> tuple[int, str]:
    return -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


INVALID_LIMIT = (-1130, "Data sent for parameter 'limit' is not valid.")
BTC = "symbol=BTCUSDT"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("v1/depth", missing("symbol")),
        ("v1/depth?symbol=NOPE", (-1121, "Invalid symbol.")),
        (f"v1/depth?{BTC}&{BTC}", (-1101, "Duplicate values for a parameter detected.")),
        (f"v1/depth?{BTC}&limit=7", (-4021, "7 is not valid depth limit")),
        (f"v1/depth?{BTC}&limit=1500", INVALID_LIMIT),
        (f"v1/trades?{BTC}&limit=1001", INVALID_LIMIT),
        (f"v1/aggTrades?{BTC}&limit=1001", INVALID_LIMIT),
        (
            f"v1/aggTrades?{BTC}&startTime={NOW_MS - 49 * 3_600_000}",
            (-4166, "Search window is restricted to recent 2 days only."),
        ),
        (f"v1/markPriceKlines?{BTC}&interval=1s", (-1120, "Invalid interval.")),
        (f"v1/markPriceKlines?{BTC}&interval=1m&limit=1501", INVALID_LIMIT),
        (
            f"v1/premiumIndexKlines?{BTC}&interval=1m&startTime=2&endTime=1",
            (-1023, "Start time is greater than end time."),
        ),
        (f"v1/indexPriceKlines?{BTC}&interval=1m", missing("pair")),
        ("v1/premiumIndex?symbol=", (-1105, "Parameter 'symbol' was empty.")),
        ("futures/data/openInterestHist?symbol=NOPE&period=5m", (-1121, "Invalid symbol.")),
        (
            f"futures/data/basis?pair=BTCUSDT&contractType=PERPETUAL&period=5m&startTime={NOW_MS - 36 * 86_400_000}",
            (-1130, "parameter 'startTime' is invalid."),
        ),
    ],
)
async def test_what_is_known_to_be_wrong_is_refused_here_and_costs_nothing(
    node: Node, target: str, error: tuple[int, str]
) -> None:
    is_data = target.startswith("futures/data")
    async with node.client() as client:
        answer = await client.get(f"/{target}" if is_data else f"/fapi/{target}")
    pairs = list(zip(("code", "msg"), error, strict=True))
    assert answer.status_code == 400
    assert list(answer.json().items()) == (pairs[::-1] if is_data else pairs)
    assert answer.headers["x-mbx-used-weight-1m"] == "1"
    assert node.market.asked == []


async def test_while_nobody_knows_the_list_the_exchange_judges_symbols() -> None:
    node = Node()
    async with node.client() as client:
        assert (await client.get("/fapi/v1/depth?symbol=newusdt")).status_code == 200
        assert (await client.get("/fapi/v1/depth?symbol=NO-SUCH!")).status_code == 400
    assert [question.params["symbol"] for question in node.market.asked] == ["NEWUSDT"]


class Listed:
    """A list of two symbols."""

    def symbol(self, text: str) -> str | None:
        return text.upper() if text.upper() in ("BTCUSDT", "币安人生USDT") else None

    def is_known(self) -> bool:
        return True


_NAMES = sorted({parameter.name for endpoint in ENDPOINTS.values() for parameter in endpoint.parameters})
_VALUES = [
    "BTCUSDT", "btcusdt", "币安人生usdt", "BTCUSD_PERP", "btcusd", "NOPE", "1m", "1M", "5m", "PERPETUAL", "0", "5",
    "05", "500", "1000", "1500", "-1", str(NOW_MS), "9" * 16, "9" * 17, "", "x", "a b", "a&b", "\0", "é", "٣",
]  # fmt: skip

_GOOD = {"symbol": "btcusdt", "pair": "BTCUSDT", "interval": "1M", "contractType": "PERPETUAL", "period": "5m"}


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(list(ENDPOINTS.values())),
    st.lists(
        st.tuples(st.sampled_from([*_NAMES, "timestamp"]), st.sampled_from(_VALUES) | st.text(max_size=9)), max_size=7
    ),
)
def test_every_query_is_one_question_in_its_form_or_an_error(endpoint: Endpoint, pairs: list[tuple[str, str]]) -> None:
    given_names = dict(pairs)
    needed = [each.name for each in endpoint.parameters if each.is_required and each.name not in given_names]
    sent = urlencode([*pairs, *((name, _GOOD[name]) for name in needed)], errors="surrogatepass").encode()
    try:
        question = question_of(endpoint, sent, Listed(), NOW_MS)
    except BinanceError as error:
        if error.status != 400:
            raise
        return
    names = [parameter.name for parameter in endpoint.parameters]
    assert [name for name, _ in question.pairs] == [name for name in names if name in question.params]
    assert question_of(endpoint, question.query_string.encode(), Listed(), NOW_MS) == question
    shuffled = urlencode([*reversed(question.pairs), ("nonsense", "1")]).encode()
    assert question_of(endpoint, shuffled, Listed(), NOW_MS) == question
    assert 0 <= endpoint.weight(question) <= 40


# --- cached while valid ----------------------------------------------------------------------------------------------


async def test_an_answer_is_given_to_all_for_as_long_as_it_holds_and_no_longer(node: Node) -> None:
    node.market.fresh_ms = node.market.thrifty_ms = 250
    async with node.client() as client:
        for passed_ms, asked in ((0, 1), (249, 1), (250, 2), (499, 2), (500, 3)):
            node.clock.ms = NOW_MS + passed_ms
            assert (await client.get(DEPTH)).content == node.market.body
            assert len(node.market.asked) == asked


async def test_a_clock_that_is_put_back_keeps_nothing_alive(node: Node) -> None:
    async with node.client() as client:
        await client.get(DEPTH)
        node.clock.ms -= 1
        await client.get(DEPTH)
    assert len(node.market.asked) == 2


async def test_while_weight_is_short_an_answer_counts_for_longer(node: Node) -> None:
    node.market.fresh_ms, node.market.thrifty_ms = 250, 2_000
    async with node.client() as client:
        await client.get(DEPTH)
        node.clock.ms += 1_999
        node.is_weight_short = True
        await client.get(DEPTH)
        assert len(node.market.asked) == 1
        node.is_weight_short = False
        await client.get(DEPTH)
        assert len(node.market.asked) == 2
        node.clock.ms += 2_000
        node.is_weight_short = True
        await client.get(DEPTH)
        assert len(node.market.asked) == 3


async def test_five_hundred_callers_ask_once(node: Node) -> None:
    gate = asyncio.Event()
    node.market.meanwhile = gate.wait
    async with node.client() as client, asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(client.get(DEPTH)) for _ in range(500)]
        await node.market.until_asked(1)
        gate.set()
    assert {(task.result().status_code, task.result().content) for task in callers} == {(200, node.market.body)}
    assert len(node.market.asked) == 1


async def test_one_caller_who_goes_away_takes_nobodys_answer_along(node: Node) -> None:
    gate, body = asyncio.Event(), Question("/fapi/v1/depth", ())

    async def fetch(_question: Question) -> Fetched:
        await gate.wait()
        return Fetched(200, b"[]", 1_000, 1_000)

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(node.market_pages.answer(body, fetch))
        others = [tasks.create_task(node.market_pages.answer(body, fetch)) for _ in range(3)]
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks ask
        first.cancel()
        await asyncio.sleep(0)  # noqa: TID251  lets it be cancelled
        gate.set()
    assert [task.result().page.body for task in others] == [b"[]"] * 3


async def test_questions_under_way_are_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_pages, "QUESTIONS_MAX", 2)
    node = Node()
    node.symbols.info = b"{}"
    gate = asyncio.Event()
    node.market.meanwhile = gate.wait
    async with node.client() as client, asyncio.TaskGroup() as tasks:
        for limit in (5, 10):
            tasks.create_task(client.get(f"{DEPTH}&limit={limit}"))
        await node.market.until_asked(2)
        refused = await client.get(f"{DEPTH}&limit=20")
        gate.set()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 4_000), st.booleans(), st.integers(0, 3_000)),
        min_size=1, max_size=80,
    )
)  # fmt: skip
async def test_what_is_kept_is_bounded_true_and_weighed_with_its_gzip_variant(
    asks: list[tuple[int, int, bool, int]],
) -> None:
    clock = ManualClock()
    pages = MarketPages(clock, lambda: False, 40_000)
    model: dict[Question, tuple[bytes, int]] = {}
    for number, size, is_packed, passed_ms in asks:
        clock.ms += passed_ms
        question, body = Question("/fapi/v1/depth", (("limit", str(number)),)), b"%d" % number * size

        async def fetch(asked: Question, body: bytes = body) -> Fetched:
            model[asked] = (body, clock.ms + 2_000)
            return Fetched(200, body, 2_000, 2_000)

        kept = await pages.answer(question, fetch)
        assert kept.page.body == model[question][0]
        assert clock.ms < model[question][1]
        if is_packed:
            headers = [(b"accept-encoding", b"gzip")]
            kept.response({"type": "http", "method": "GET", "path": "/", "headers": headers}, clock.ms)
            pages.weigh(question, kept)
        assert pages.bytes <= 40_000
        assert pages.bytes == sum(each.cost() for each in pages._entries.values())
        assert all(each.cost() <= 40_000 // PAGE_SHARE_MAX for each in pages._entries.values())


def test_an_entry_costs_more_than_its_body() -> None:
    question = Question("/fapi/v1/depth", (("symbol", "BTCUSDT"),))
    assert Kept(question, Fetched(200, b"x" * 100, 1, 1), 0).cost() > 100 + len("symbolBTCUSDT")


# --- what is sent to clients -----------------------------------------------------------------------------------------


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


# --- refused ---------------------------------------------------------------------------------------------------------


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


# --- several processes -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A reader with an RPC connection, and the writer at its other end."""
    writer, end = Node(), LocalWriterRpc(folder / "klinenode.db")
    await end.open(lambda asked: answer_by(writer.app, asked))
    reader = Node(line=FakeLine(LocalWriterRpc(folder / "klinenode.db")))
    reader.symbols.info = writer.symbols.info = b"{}"
    try:
        yield reader, writer
    finally:
        await end.close()


async def test_rows_from_the_archive_are_named_also_by_way_of_the_writer(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.client() as client:
        writer.statistics.answer = HeldAnswer(LARGE, 15_000, "1; 1700000100000-1700000100000")
        for _ in range(2):
            answer = await client.get("/futures/data/openInterestHist?symbol=BTCUSDT&period=5m")
            assert answer.content == LARGE
            assert answer.headers["x-archive-rows"] == "1; 1700000100000-1700000100000"
        assert (reader.market_pages.hits, reader.market_pages.misses) == (1, 1)


async def test_the_process_that_writes_asks_for_all(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.client() as client, writer.client() as other:
        writer.market.body, writer.market.fresh_ms, writer.market.thrifty_ms = LARGE, 5_000, 5_000
        assert (await other.get(DEPTH)).content == LARGE
        writer.clock.ms = reader.clock.ms = NOW_MS + 2_000
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(client.get(DEPTH)) for _ in range(50)]
        assert {(task.result().status_code, task.result().content) for task in answers} == {(200, LARGE)}
        assert answers[0].result().headers["cache-control"] == "public, max-age=1", "3 s are left"
        assert "x-klinenode-holds-ms" not in answers[0].result().headers
        assert (len(writer.market.asked), len(reader.market.asked)) == (1, 0)
        reader.clock.ms = NOW_MS + 5_000
        assert (await client.get(DEPTH)).status_code == 200
        assert len(writer.market.asked) == 1, "by the writer's clock it holds"
        writer.clock.ms = NOW_MS + 5_000
        reader.clock.ms += 3_000
        await client.get(DEPTH)
        assert len(writer.market.asked) == 2


async def test_refusals_come_over_the_line_as_they_are(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.client() as client:
        writer.market.status, writer.market.body = 400, b'{"code":-1121,"msg":"Invalid symbol."}'
        answer = await client.get(DEPTH)
        assert (answer.status_code, answer.content) == (400, writer.market.body)
        writer.market.error = StandDown(NOW_MS + 90_500, "banned")
        answer = await client.get(f"{DEPTH}&limit=5")
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "91", -1001)
        assert answer.headers["x-klinenode-reason"] == "stand-down", "the writer's own reason"


async def test_without_a_writer_on_the_line_it_is_said_when_to_ask_again(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, _):
        pass
    async with reader.client() as client:
        answer = await client.get(DEPTH)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "1", -1001)
    assert answer.headers["x-klinenode-reason"] == "writer"


# --- names that are not listed ---------------------------------------------------------------------------------------

_OF_A_SYMBOL = [
    "/fapi/v1/klines?interval=1m&symbol=",
    "/fapi/v1/markPriceKlines?interval=1m&symbol=",
    "/fapi/v1/indexPriceKlines?interval=1m&pair=",
    "/fapi/v1/continuousKlines?interval=1m&contractType=PERPETUAL&pair=",
    "/fapi/v1/depth?symbol=",
    "/fapi/v1/premiumIndex?symbol=",
    "/futures/data/openInterestHist?period=5m&symbol=",
]


@pytest.mark.parametrize("target", _OF_A_SYMBOL)
async def test_a_symbol_that_was_listed_since_is_answered_everywhere(node: Node, target: str) -> None:
    node.names.new = {"FRESHUSDT"}
    async with node.client() as client:
        assert (await client.get(f"{target}freshusdt")).status_code == 200
        assert (await client.get(f"{target}NOPEUSDT")).json()["code"] == -1121
    assert node.names.learnt == ["FRESHUSDT", "NOPEUSDT"]


@pytest.mark.parametrize("target", _OF_A_SYMBOL)
async def test_coin_margined_names_are_the_exchange_s_to_judge_everywhere(node: Node, target: str) -> None:
    name = "BTCUSD" if "pair=" in target else "BTCUSD_PERP"
    async with node.client() as client:
        assert (await client.get(f"{target}{name.lower()}")).status_code == 200
    path = target.partition("?")[0]
    assert (node.names.learnt, node.names.asked) == ([], [(path, name)])
    node.query.error = invalid_symbol()
    node.market.status, node.market.body = 400, invalid_symbol().body()
    node.clock.ms += 3_600_000
    node.pages.clear()
    async with node.client() as client:
        assert (await client.get(f"{target}{name}")).json()["code"] == -1121
    if path != "/fapi/v1/klines":
        assert node.names.refused == [(path, name)]
