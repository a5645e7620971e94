"""Pictures of each page of the dashboard, wide and on a phone, light and dark. Run by `make screenshots`."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.system.processes import ROOT, pause
from tests.web.chromium import Page
from tests.web.stage import HAS_BARS, Stage, staged

FOLDER: Final = ROOT / "bench" / "screenshots"
PAGES: Final = ("overview", "coverage", "chart", "collector")
SIZES: Final = {"wide": (1280, 900), "phone": (390, 844)}
SETTLED_S: Final = 1.5  # for what a page fetches after it is first drawn
DARK: Final = "localStorage.setItem('klinenode.theme', '{}')"


async def taken(stage: Stage, name: str, size: str, theme: str) -> Path:
    """Take one picture and return its file."""
    width, height = SIZES[size]
    page: Page = await stage.browser.page(width=width, height=height, before=DARK.format(theme))
    await page.go(stage.url(page=name))
    await page.until(
        HAS_BARS if name == "chart" else f"document.querySelector('.page.{name} *') !== null", f"{name} is shown"
    )
    await pause(SETTLED_S)
    file = FOLDER / f"{name}-{size}-{theme}.png"
    await page.picture(file)
    await page.close()
    return file


async def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder)) as stage:
            for name in PAGES:
                for size, theme in (("wide", "light"), ("wide", "dark"), ("phone", "light")):
                    print(await taken(stage, name, size, theme))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
