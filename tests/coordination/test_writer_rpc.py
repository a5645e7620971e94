"""WriterRpc: whoever asks gets the writer's own response to its request or, after a limited time, an error."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from app.http.admin import BODY_BYTES_MAX
from app.ports.coordination import AnswerRequest, RpcRequest, RpcResponse, WriterRpc, WriterUnreachable
from tests.coordination.writer_rpcs import WRITER_RPCS, WriterRpcs
from tests.patience import PATIENCE_S

EVERY_BYTE = bytes(range(256))
HEADERS_BYTES_MAX = 16_384  # of a request that uvicorn accepts

WRITER = """
import asyncio, sys
from pathlib import Path
from tests.coordination.writer_rpcs import WRITER_RPCS

async def answer(request):
    print("asked", flush=True)
    await asyncio.Event().wait()

async def main():
    await WRITER_RPCS[sys.argv[1]].made(Path(sys.argv[2])).process().open(answer)
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=list(WRITER_RPCS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def rpcs(kind: str, tmp_path: Path) -> WriterRpcs:
    return WRITER_RPCS[kind].made(tmp_path)


def asking(body: bytes = b"") -> RpcRequest:
    return RpcRequest("GET", "/", "", "", [], body)


async def echo(request: RpcRequest) -> RpcResponse:
    return RpcResponse(200, [], request.body)


@asynccontextmanager
async def answering(rpcs: WriterRpcs, answer: AnswerRequest) -> AsyncIterator[WriterRpc]:
    """The writer's side, open."""
    writer = rpcs.process()
    await writer.open(answer)
    try:
        yield writer
    finally:
        await writer.close()


@contextmanager
def started(kind: str, folder: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A writer in a process of its own."""
    command = [sys.executable, "-c", WRITER, kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield process
        finally:
            process.kill()


class Gate:
    """An answer that echoes once the gate is open."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()

    async def answer(self, request: RpcRequest) -> RpcResponse:
        self.entered.set()
        await self.opened.wait()
        return await echo(request)


@pytest.mark.parametrize(
    "request_",
    [
        RpcRequest("POST", "/v1/行情", "q=%20&ü=é", "10.0.0.1", [("b", "2"), ("a", "1"), ("b", "3\xff")], EVERY_BYTE),
        RpcRequest("", "", "", "", [], b""),
        RpcRequest("POST", "/", "", "", [("a", "x" * HEADERS_BYTES_MAX)], b"x" * BODY_BYTES_MAX),
    ],
    ids=["every field", "nothing", "the largest that the routes accept"],
)
@pytest.mark.parametrize(
    "response",
    [
        RpcResponse(503, [("retry-after", "1"), ("a", "\xff"), ("a", "")], EVERY_BYTE),
        RpcResponse(200, [], b""),
        RpcResponse(200, [], EVERY_BYTE * 20_000),
    ],
    ids=["a refusal", "nothing", "five megabytes"],
)
async def test_request_and_response_arrive_unchanged_and_once(
    rpcs: WriterRpcs, request_: RpcRequest, response: RpcResponse
) -> None:
    arrived = []

    async def answer(request: RpcRequest) -> RpcResponse:
        arrived.append(request)
        return response

    async with answering(rpcs, answer):
        assert await rpcs.process().ask(request_) == response
    assert arrived == [request_]


async def test_each_response_goes_to_its_request_in_whatever_order_they_are_made(rpcs: WriterRpcs) -> None:
    bodies = [b"%d" % number for number in range(60)]
    gates = {body: asyncio.Event() for body in bodies}
    entered, all_entered, answered = 0, asyncio.Event(), list[bytes]()

    async def answer(request: RpcRequest) -> RpcResponse:
        nonlocal entered
        entered += 1
        if entered == len(bodies):
            all_entered.set()
        await gates[request.body].wait()
        return RpcResponse(200, [], b"to " + request.body)

    async def ask(process: WriterRpc, body: bytes) -> None:
        assert (await process.ask(asking(body))).body == b"to " + body
        answered.append(body)
        if (following := next(order, None)) is not None:
            gates[following].set()

    order = iter(bodies[::-1])
    async with answering(rpcs, answer), asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        asked = [rpcs.process() for _ in range(3)]
        for number, body in enumerate(bodies):
            tasks.create_task(ask(asked[number % 3], body))
        await all_entered.wait()
        gates[next(order)].set()
    assert answered == bodies[::-1], "nobody waits for a request that came earlier"


async def test_an_exception_of_the_writer_reaches_the_one_who_asked_and_nobody_else(rpcs: WriterRpcs) -> None:
    gate = Gate()

    async def answer(request: RpcRequest) -> RpcResponse:
        if request.body == b"bad":
            raise ZeroDivisionError
        return await gate.answer(request)

    async with answering(rpcs, answer), asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        other = tasks.create_task(rpcs.process().ask(asking(b"good")))
        await gate.entered.wait()
        with pytest.raises(WriterUnreachable, match="ask again"):
            await rpcs.process().ask(asking(b"bad"))
        gate.opened.set()
        assert (await other).body == b"good"


async def test_requests_at_a_time_are_limited_and_one_that_ends_makes_room(
    rpcs: WriterRpcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpcs.limit(monkeypatch, requests=1)
    gate = Gate()
    async with answering(rpcs, gate.answer), asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(rpcs.process().ask(asking(b"first")))
        await gate.entered.wait()
        for _ in range(3):
            with pytest.raises(WriterUnreachable):
                await rpcs.process().ask(asking(b"too many"))
        gate.opened.set()
        assert (await first).body == b"first"
        assert (await rpcs.process().ask(asking(b"later"))).body == b"later"


async def test_a_request_that_is_too_large_is_not_answered(rpcs: WriterRpcs, monkeypatch: pytest.MonkeyPatch) -> None:
    rpcs.limit(monkeypatch, request_bytes=10_000)
    arrived = []

    async def answer(request: RpcRequest) -> RpcResponse:
        arrived.append(len(request.body))
        return RpcResponse(200, [], b"")

    async with answering(rpcs, answer):
        for size in (10_001, 5_000_000):
            with pytest.raises(WriterUnreachable):
                await rpcs.process().ask(asking(b"x" * size))
        await rpcs.process().ask(asking(b"x" * 9_000))
    assert arrived == [9_000]


async def test_a_response_that_is_too_large_is_not_delivered(rpcs: WriterRpcs, monkeypatch: pytest.MonkeyPatch) -> None:
    rpcs.limit(monkeypatch, response_bytes=10_000)

    async def answer(request: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], b"x" * int(request.body))

    async with answering(rpcs, answer):
        for size in (10_001, 5_000_000):
            with pytest.raises(WriterUnreachable):
                await rpcs.process().ask(asking(b"%d" % size))
        assert len((await rpcs.process().ask(asking(b"9000"))).body) == 9_000


async def test_an_answer_that_takes_too_long_is_not_waited_for(
    rpcs: WriterRpcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpcs.limit(monkeypatch, requests=1, request_s=0.05)
    gate = Gate()
    async with answering(rpcs, gate.answer), asyncio.timeout(PATIENCE_S):
        with pytest.raises(WriterUnreachable):
            await rpcs.process().ask(asking())
        gate.opened.set()
        rpcs.limit(monkeypatch, request_s=PATIENCE_S)
        while True:
            try:
                assert (await rpcs.process().ask(asking(b"next"))).body == b"next"
            except WriterUnreachable:
                continue  # the writer's own timer may run out a moment later
            break


async def test_without_a_writer_one_is_told_at_once_and_what_to_do(rpcs: WriterRpcs) -> None:
    with pytest.raises(WriterUnreachable, match=r"does not answer.*ask again in a few seconds"):
        await rpcs.process().ask(asking())
    await rpcs.process().close()


async def test_closing_refuses_new_requests_and_answers_those_under_way(rpcs: WriterRpcs) -> None:
    gate = Gate()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        async with answering(rpcs, gate.answer) as writer:
            under_way = tasks.create_task(rpcs.process().ask(asking(b"under way")))
            await gate.entered.wait()
            await writer.close()
            with pytest.raises(WriterUnreachable):
                await rpcs.process().ask(asking())
        gate.opened.set()
        assert (await under_way).body == b"under way"


async def test_a_process_may_be_the_writer_again(rpcs: WriterRpcs) -> None:
    process, other = rpcs.process(), rpcs.process()
    for number in range(3):
        async with answering(rpcs, echo) as writer:
            assert (await process.ask(asking(b"%d" % number))).body == b"%d" % number
        with pytest.raises(WriterUnreachable):
            await process.ask(asking())
        await process.open(echo)
        assert (await other.ask(asking(b"x"))).body == b"x"
        await process.close()
        assert writer is not process


async def test_a_killed_writer_releases_who_waits_for_it_and_a_successor_takes_over(
    kind: str, rpcs: WriterRpcs, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    process = rpcs.process()
    with started(kind, tmp_path, request.config.rootpath) as writer:
        assert writer.stdout is not None
        assert await asyncio.to_thread(writer.stdout.readline) == "open\n"
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(asyncio.wait([tasks.create_task(refused(process)) for _ in range(3)]))
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(3):
                    assert await asyncio.to_thread(writer.stdout.readline) == "asked\n"
                writer.kill()
                await waiting
        with pytest.raises(WriterUnreachable):
            await process.ask(asking())
    async with answering(rpcs, echo):
        assert (await process.ask(asking(b"x"))).body == b"x"


async def refused(process: WriterRpc) -> None:
    with pytest.raises(WriterUnreachable):
        await process.ask(asking())


async def test_a_writer_that_was_replaced_does_not_take_its_successor_away(rpcs: WriterRpcs) -> None:
    """It was suspended or lost its lock file, and closes only when it finds that out."""

    async def former(request: RpcRequest) -> RpcResponse:
        return RpcResponse(200, [], b"former")

    async with answering(rpcs, former) as replaced:
        async with answering(rpcs, echo):
            assert (await rpcs.process().ask(asking(b"x"))).body == b"x"
            await replaced.close()
            assert (await rpcs.process().ask(asking(b"x"))).body == b"x"
        with pytest.raises(WriterUnreachable):
            await rpcs.process().ask(asking())
