"""The experiments of docs/exactness.md, as a sceptical reader types them, end as the page says."""

import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE_S
from tests.system.processes import KLINENODE, ROOT, Place, Programs, free_port, until

PAGE: Final = ROOT / "docs/exactness.md"
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
NEEDED: Final = ("bash", "curl", "sqlite3")
LOOK_EVERY_S: Final = 0.5  # each look costs the node a report of all series


def experiment(names: str) -> str:
    """The one block of commands on the page that contains `names`."""
    (found,) = [block for block in BLOCKS if names in block]
    return str(found)


def reader(programs: Programs, port: int, sandbox_port: int) -> Callable[[str], Awaitable[tuple[int, str]]]:
    """Who types a block of the page; the answer is its last command's exit status, and all that was printed."""
    here = {"127.0.0.1:8000": f"127.0.0.1:{port}", "127.0.0.1:8900": f"127.0.0.1:{sandbox_port}"}

    async def types(block: str) -> tuple[int, str]:
        for there, mine in {**here, ".venv/bin/klinenode": KLINENODE[0]}.items():
            block = block.replace(there, mine)
        shell = programs.start(block, command=("bash", "-c"))
        return await shell.ended(PATIENCE_S), shell.said()

    return types


@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
async def test_what_a_reader_falsifies_damages_or_bans_is_repaired_or_refused(tmp_path: Path) -> None:
    port, sandbox_port = free_port(), free_port()
    async with Programs(tmp_path) as programs:
        programs.start("demo", "--port", str(port), "--sandbox-port", str(sandbox_port), "--symbols", "4")
        place = Place(programs, sandbox_port, port=port)
        types = reader(programs, port, sandbox_port)

        async def is_whole() -> bool:
            return (await place.get("/v1/ready")).status_code == 200 and await place.is_whole()

        await until(is_whole, "the demo is ready, and holds everything", every_s=LOOK_EVERY_S)

        status, said = await types(experiment("UPDATE kline_1m"))
        # of a day that is over, the rows are counted by days
        assert (status, len(re.findall(r"BTCUSDT 1m.*: 1 (?:rows )?replaced", said))) == (1, 1)
        status, said = await types(experiment("FROM revision"))
        assert re.match(r"BTCUSDT\|1m\|\d+\|1\.00\|rest\|rest\n", said)

        status, said = await types(experiment("UPDATE block"))
        assert " 503 " in said
        assert "x-klinenode-reason: database" in said

        async def is_repaired() -> bool:
            return "klinenode_blocks_damaged_total 0.0" not in (await place.get("/metrics")).text and await is_whole()

        await until(is_repaired, "the damaged block is fetched again", every_s=LOOK_EVERY_S)

        status, said = await types(experiment("http_418"))
        assert "x-klinenode-reason: stand-down" in said
        assert re.search(r"^retry-after: \d+", said, re.MULTILINE)
        status, said = await types(experiment("allow_partial"))
        assert " 200 " in said
        assert "klines_held=3" in said
