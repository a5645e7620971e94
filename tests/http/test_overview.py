"""The dashboard's own answers: slow requests are named, wrong parameters say what there is."""

import httpx

from app.domain.interval import MINUTE_MS
from app.http.slow import KEPT_MAX, QUERY_CHARS_MAX, SLOW_S, SlowAnswers
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from tests.http.fakes import NOW_MS, FakeLine, ManualClock, Node


class Unreachable:
    async def ask(self, request: RpcRequest) -> RpcResponse:
        raise WriterUnreachable("the process that writes does not answer")


class Elsewhere:
    async def ask(self, request: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [("content-type", "application/json")], b'{"version":"theirs","slow":[{"path":"/b"}]}')


async def test_the_writer_answers_and_this_process_adds_its_own_slow_requests() -> None:
    async with Node(line=FakeLine(Elsewhere())).client() as client:
        told = (await client.get("/v1/overview")).json()
    assert (told["version"], told["slow"]) == ("theirs", [{"path": "/b"}])


async def test_while_no_writer_answers_the_process_shows_its_own_state() -> None:
    async with Node(line=FakeLine(Unreachable())).client() as client:
        answer = await client.get("/v1/overview")
    assert (answer.status_code, answer.json()["version"]) == (200, "0")
    assert answer.headers["cache-control"] == "no-store"


def test_slow_requests_are_kept_newest_first_and_never_without_bound() -> None:
    slow = SlowAnswers(ManualClock())
    slow.note({"path": "/fast", "query_string": b""}, SLOW_S / 2, 200)
    for number in range(KEPT_MAX + 5):
        slow.note({"path": "/slow", "query_string": b"n=%d&" % number + b"x" * 9_000}, SLOW_S + number, 200)
    report = slow.report()
    assert len(report) == KEPT_MAX
    assert all(len(str(each["query"])) == QUERY_CHARS_MAX for each in report)
    assert str(report[0]["query"]).startswith(f"n={KEPT_MAX + 4}&")
    assert (report[0]["elapsed_ms"], report[0]["at_ms"], report[0]["status"]) == (24_250, NOW_MS, 200)


async def test_days_name_what_there_is_when_a_parameter_is_wrong() -> None:
    async with Node().client() as client:
        whole: httpx.Response = await client.get("/v1/coverage/days?days=3&limit=2")
        assert [each["symbol"] for each in whole.json()["series"]] == ["BTCUSDT", "ETHUSDT"]
        assert {each["days"] for each in whole.json()["series"]} == {"mmm"}
        assert whole.json()["as_of"] % MINUTE_MS == 0
        again = await client.get("/v1/coverage/days?days=3&limit=2", headers={"if-none-match": whole.headers["etag"]})
        assert again.status_code == 304
        nothing = await client.get("/v1/coverage/days?kind=fundingRate&interval=1m")
        assert (nothing.status_code, nothing.json()["total"]) == (200, 0)
        for query, named in (
            ("kind=nothing", "trades"), ("interval=7m", "1m, 3m"),
            ("days=0", "days"), ("limit=101", "limit"),
        ):  # fmt: skip
            refused = await client.get(f"/v1/coverage/days?{query}")
            assert (refused.status_code, named in refused.json()["error"]) == (400, True), query
