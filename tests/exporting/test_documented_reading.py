"""The programs of docs/exports.md read every close exactly, in the tools that people have."""

import asyncio
import json
import re
import sys
from decimal import Decimal
from pathlib import Path

from app.ports.export import Format
from tests.exporting.held import HOURS, MINUTES, MISSING, Held, rows_of
from tests.system.processes import ROOT

RUN = """
import json, sys, warnings

for number, program in enumerate(json.load(sys.stdin)):
    names = {}
    exec(compile(program, f"program {number}", "exec"), names)
    closes = names["closes"]
    texts = [repr(each) if isinstance(each, float) else str(each) for each in closes]
    print(json.dumps([type(closes[0]).__name__, texts]))
"""
PROGRAMS_S_MAX = 120.0  # five big libraries are imported, on a machine that does other things


async def test_the_documented_programs_read_every_close_exactly(held: Held, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for form in Format:
        await held.export(folder, held.files(form, [MINUTES, HOURS]))
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exports.md").read_text(), re.DOTALL)
    assert len(programs) >= 8, "the document has a program for each tool and format"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PROGRAMS_S_MAX):
        printed, _ = await process.communicate(json.dumps(programs).encode())
    assert process.returncode == 0
    texts = [row.close for row in rows_of(MINUTES) if row.open_ms not in range(*MISSING)]
    for program, line in zip(programs, printed.decode().splitlines(), strict=True):
        kind, closes = json.loads(line)
        if kind == "float":
            assert "pymarketstore" in program, program
            assert closes == [repr(float(text)) for text in texts], program
        elif kind == "str":
            assert closes == texts, program
        else:
            assert [Decimal(each) for each in closes] == [Decimal(text) for text in texts], program
