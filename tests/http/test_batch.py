"""What batches and rolling windows refuse, and how they stay within their bounds."""

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

import orjson
import pytest

from app.binance.error_body import never_held, service_unavailable
from app.domain.reason import Reason
from app.http import batch, codings
from app.http.batch_params import ARROW_TYPE, PARAMETERS, ROWS_MAX, SYMBOLS_MAX, batch_request
from app.http.codings import PlainBody
from app.http.rolling_params import PARAMETERS as ROLLING_PARAMETERS
from app.ports.arrow import ArrowMissing
from tests.http.fakes import Node, kline_body, served, wire

PATH = "/v1/klines/batch"


class NoArrow:
    def begin(self, facts: Mapping[str, str]) -> bytes:
        raise ArrowMissing("Arrow needs pyarrow: install it.")

    def klines(self, symbol: str, body: bytes) -> bytes:
        raise ArrowMissing("Arrow needs pyarrow: install it.")


REFUSED = [
    ("", "'symbols'"),
    ("symbols=&interval=1m", "'symbols'"),
    ("symbols=,,&interval=1m", "'symbols'"),
    ("symbols=BTCUSDT", "'interval'"),
    ("symbols=BTCUSDT&interval=1s", "Invalid interval"),
    ("symbols=BTCUSDT&interval=1m&limit=1501", "'limit'"),
    ("symbols=BTCUSDT&interval=1m&limit=", "'limit'"),
    ("symbols=BTCUSDT&interval=1m&startTime=2&endTime=1", "Start time"),
    ("symbols=BTCUSDT&interval=1m&format=csv", "There is no format csv"),
    ("symbols=BTCUSDT&symbols=ETHUSDT&interval=1m", "Duplicate"),
    ("symbols=BTCUSDT&interval=1m&as_of=1", "as_of is not answered here"),
    (f"symbols={','.join(f'A{each}' for each in range(SYMBOLS_MAX + 1))}&interval=1m", "more than 1000"),
    (
        f"symbols={','.join(f'A{each}' for each in range(SYMBOLS_MAX))}&interval=1m&limit=1500",
        "a limit of 900 fits",
    ),
]
REFUSED_WINDOWS = [
    ("window=90m", "'symbol'"),
    ("symbol=BTCUSDT", "'window'"),
    ("symbol=NOPE&window=90m", "lists no NOPE"),
    ("symbol=BTCUSDT@markPrice&window=90m", "made of klines alone"),
    ("symbol=BTCUSDT&window=90m&as_of=1", "as_of is not answered here"),
    ("symbol=BTCUSDT&window=90", "a length from 1m to 7d"),
    ("symbol=BTCUSDT&window=8d", "a length from 1m to 7d"),
    ("symbol=BTCUSDT&window=0m", "a length from 1m to 7d"),
    ("symbol=BTCUSDT&window=1h&step=", "'step' was empty"),
    ("symbol=BTCUSDT&window=1h&step=2h", "The step is longer than the window"),
    ("symbol=BTCUSDT&window=7d&step=7d&limit=10", "a limit of 4 fits"),
    ("symbol=BTCUSDT&window=1h", "open times 1699966"),
]


async def test_what_is_not_understood_or_too_much_is_refused() -> None:
    async with Node().client() as client:
        for path, cases in ((PATH, REFUSED), ("/v1/klines/rolling", REFUSED_WINDOWS)):
            for query, text in cases:
                answer = await client.get(f"{path}?{query}")
                assert answer.status_code == (503 if "open times" in text else 400), query
                assert text in answer.json()["error"], query


async def test_the_description_names_the_parameters() -> None:
    async with Node().client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    for path, names in ((PATH, PARAMETERS), ("/v1/klines/rolling", ROLLING_PARAMETERS)):
        assert tuple(each["name"] for each in paths[path]["get"]["parameters"]) == names


async def test_a_thousand_symbols_fit_into_a_request_and_non_ascii_ones_are_keys() -> None:
    node = Node()
    node.query.body = kline_body(2)
    symbols = ["币安人生usdt", *(f"NO{each:018}" for each in range(SYMBOLS_MAX - 1))]
    async with served(node.app) as port:
        target = f"{PATH}?symbols={quote(','.join(symbols), safe='')}&interval=1m&limit=2"
        answer = await wire(port, target)
        found = orjson.loads(answer.body)
        assert next(iter(found)) == "币安人生USDT"
        assert answer.headers["x-klinenode-batch"] == "symbols=1000; whole=1; errors=999; holed=0"
        assert (await wire(port, f"{target}&x={'x' * 5000}")).status == 414
        assert (await wire(port, target.replace("batch", "rolling"))).status == 414, "another path has the usual bound"


async def test_batches_beyond_the_memory_of_all_are_refused_and_leave_it_when_they_end() -> None:
    node = Node()
    free, begun = asyncio.Event(), asyncio.Event()

    async def meanwhile() -> None:
        begun.set()
        await free.wait()

    node.query.meanwhile = meanwhile
    large = f"{PATH}?symbols={','.join(['BTCUSDT'] * 600)}&interval=1m&limit={ROWS_MAX // 600}"
    async with node.client() as client, asyncio.TaskGroup() as tasks:
        client.headers["accept-encoding"] = "identity"
        first = tasks.create_task(client.get(large))
        await begun.wait()
        refused = await client.get(large)
        assert (refused.status_code, refused.headers["x-klinenode-reason"]) == (503, "busy")
        free.set()
        assert (await first).status_code == 200
        assert (await client.get(large)).status_code == 200, "its memory was not given back"


async def test_without_pyarrow_arrow_says_what_to_install_and_a_symbols_error_keeps_its_reason() -> None:
    node = Node(arrow=NoArrow())
    async with node.client() as client:
        answer = await client.get(f"{PATH}?symbols=BTCUSDT&interval=1m&format=arrow")
        assert (answer.status_code, answer.json()["error"]) == (501, "Arrow needs pyarrow: install it.")
        node.query.error = service_unavailable(7, Reason.DATABASE)
        answer = await client.get(f"{PATH}?symbols=BTCUSDT,NOPE&interval=1m")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        assert "the database cannot be read" in answer.json()["BTCUSDT"]["msg"]
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "is_arrow"),
    [
        ("{}", True),
        ("{};q=0.5", True),
        ("application/json;q=0.9, {}", True),
        ("application/json, {}", True),
        ("{}, */*;q=0.1", True),
        ("application/VND.apache.arrow.stream", True),
        ("{};q=0", False),
        ("application/json, {};q=0.1", False),
        ("{};q=0.1, application/*", False),
        ("{};q=0.5, */*", False),
        ("{};q=nonsense", False),
        ("*/*", False),
        ("application/*", False),
    ],
)
def test_arrow_is_sent_where_accept_likes_it_as_well_as_json(accept: str, is_arrow: bool) -> None:
    headers = [(b"accept", each.encode()) for each in accept.format(ARROW_TYPE.decode()).split(", ")]
    for sent in (headers, [(b"accept", b", ".join(value for _, value in headers))]):
        assert batch_request(b"symbols=BTCUSDT&interval=1m", sent, list).is_arrow is is_arrow
    assert batch_request(b"symbols=BTCUSDT&interval=1m&format=arrow", headers, list).is_arrow


async def test_a_batch_of_nothing_that_waiting_helps_has_no_retry_after() -> None:
    node = Node()
    node.query.error = never_held("not held")
    async with node.client() as client:
        answer = await client.get(f"{PATH}?symbols=BTCUSDT,ETHUSDT&interval=1m")
    assert (answer.status_code, answer.headers["x-klinenode-reason"]) == (503, "not-held")
    assert "retry-after" not in answer.headers


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "SENT_S_MAX", 0)
    node = Node()
    node.query.body = kline_body(20_000)  # more than the buffers of a connection hold
    async with served(node.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        target = f"{PATH}?symbols=BTCUSDT,ETHUSDT&interval=1m"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert len(await reader.read(-1)) < size
        writer.close()


def test_a_plain_body_beyond_its_bound_is_kept_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "PLAIN_BYTES_MAX", 100_000)
    body, parts = PlainBody(), [kline_body(rows) for rows in range(1, 400, 7)]
    for part in parts:
        body.add(part)
    body.put_before(b"first")
    assert body.end() == len(b"first" + b"".join(parts))
    assert b"".join(body.pieces()) == b"first" + b"".join(parts)
    assert sum(map(len, [*body._made, *body._packed])) < 250_000
