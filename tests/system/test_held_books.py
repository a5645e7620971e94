"""A node with a collector answers depth of the books that it follows itself, whichever of its processes is asked."""

from pathlib import Path
from typing import Any

from infra.sandbox.answers.trades import levels_of
from infra.sandbox.server import SandboxServer
from tests.nats_server import NatsServer
from tests.system.processes import Place, Programs, ShiftedClock, until

ASKED = 20  # requests on separate connections, spread over the workers by chance
FOLLOWED, OTHER = "/fapi/v1/depth?symbol=BTCUSDT&limit=100", "/fapi/v1/depth?symbol=ETHUSDT&limit=100"


def truth(sandbox: SandboxServer, answer: dict[str, Any]) -> dict[str, Any]:
    """What the sandbox's book was at the time of the answer."""
    exchange = sandbox.venues.exchange
    item = exchange.universe.find("BTCUSDT", answer["T"])
    assert item is not None
    book = exchange.book.snapshot(item, 100, answer["T"])
    sides = {"bids": levels_of(item, book.bids), "asks": levels_of(item, book.asks)}
    return {"lastUpdateId": book.update_id, "E": answer["E"], "T": book.time_ms, **sides}


def asked(sandbox: SandboxServer, since: int) -> int:
    return sum(entry.path == "/fapi/v1/depth" for entry in sandbox.journal.since(since))


async def test_depth_of_a_followed_book_is_the_truth_and_costs_no_request(tmp_path: Path) -> None:
    clock = ShiftedClock(elapsed_s=5)
    with NatsServer(tmp_path) as nats:
        async with SandboxServer(clock, symbols=2) as sandbox, Programs(tmp_path) as programs:
            collector = {
                "EXCHANGES": "binance",
                "NATS_URL": nats.url,
                "COLLECT_DIR": str(tmp_path / "collect"),
                "COLLECT_SYMBOLS": "BTC-USDT",
                "COLLECT_TYPES": "orderbook",
            }
            place = Place(programs, sandbox.port, settings={"WORKERS": "2", **collector})
            place.serve()
            await until(place.is_up, "the node answers")

            async def is_held() -> bool:
                """Whether a round of requests costs nothing; on a starved machine a book may be a second old."""
                begun = sandbox.journal.written
                answers = [await place.get(FOLLOWED) for _ in range(ASKED)]
                if any(answer.status_code != 200 for answer in answers):
                    return False
                for answer in answers:
                    found = answer.json()
                    assert found == truth(sandbox, found)
                return asked(sandbox, begun) == 0

            await until(is_held, "both processes answer from memory")
            begun = sandbox.journal.written
            assert (await place.get(OTHER)).status_code == 200
            assert asked(sandbox, begun) == 1, "a book that is not followed is fetched"
