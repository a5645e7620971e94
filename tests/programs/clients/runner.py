"""Runs the code of a page of docs/clients in its client's environment, then the checks of that client.

    python -m tests.programs.clients.runner <page> <address of the node, host:port>

It runs under the client's interpreter (.clients/), not under that of the tests, and uses the standard library only.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

from tests.programs.clients.pages import blocks
from tests.programs.clients.raw import Raw

PAGES = Path(__file__).parents[3] / "docs/clients"


def main(page: str, address: str) -> None:
    """Execute the page's Python, with only the address replaced, then check the objects that it made."""
    made: dict[str, Any] = {"__name__": "page"}
    for block in blocks(PAGES / f"{page}.md", "python"):
        exec(compile(block.replace("127.0.0.1:8000", address), f"{page}.md", "exec"), made)
    check = importlib.import_module(f"tests.programs.clients.checks.{page.replace('-', '_')}")
    check.check(made, Raw(address))
    print(f"{page}: all agrees")


if __name__ == "__main__":
    main(*sys.argv[1:])
