"""A process's collector, made of the settings: in a node beside everything else, or in a process of its own."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from app.binance.collector_names import NAME as BINANCE
from app.collecting.book_chain import BookChain
from app.collecting.collector import WISH_FILE, Collector
from app.collecting.wish import WishFileError
from app.node.collector import CannotCollect, NodeCollector
from app.node.venues import BudgetedIo, reach
from app.ports.venue_io import VenueIo
from app.runtime import Runtime
from app.services_file import ServicesFileError
from app.settings import Settings
from infra.binance.rest import BinanceRest
from infra.process.folder_lock import FolderLock, FolderTaken
from infra.process.whole_file import WholeFile
from infra.venues.venue_io import NetVenueIo


class Collecting:
    """A collector with its connections; `run` runs it until it is cancelled."""

    def __init__(self, settings: Settings, load: Callable[[], Settings], runtime: Runtime, rest: BinanceRest) -> None:
        """`load` reads the settings again; Binance is asked through `rest`. Reads files. Raises CannotCollect."""
        self._lock = _locked(Path(settings.collect_dir))
        self._reached: list[NetVenueIo] = []
        ios: dict[str, VenueIo] = {}
        for name in settings.exchanges:
            io = reach(name, settings, runtime)
            self._reached.append(io)
            ios[name] = BudgetedIo(io, rest) if name == BINANCE else io
        file = WholeFile(Path(settings.collect_dir) / WISH_FILE)
        try:
            self._control = NodeCollector(settings, runtime, ios)
            self.collector = Collector.over(self._control, settings, load, file, runtime)
        except (WishFileError, ServicesFileError) as error:
            self._lock.release()
            raise CannotCollect(str(error)) from error
        except BaseException:
            self._lock.release()
            raise

    def book(self, symbol: str) -> BookChain | None:
        """The book of Binance's `symbol` that is held; None: it is not followed, or not proven contiguous."""
        return self._control.book(BINANCE, symbol)

    async def run(self) -> None:
        """Collect until cancelled."""
        await self._control.run(self.collector)

    async def close(self) -> None:
        """Close the connections and free COLLECT_DIR."""
        for io in self._reached:
            await io.aclose()
        self._lock.release()


def _locked(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except FolderTaken as error:
        raise CannotCollect(
            f"COLLECT_DIR: {error}: a collector runs already, in a node or by `klinenode collect`; end it, or give "
            "this one a folder of its own"
        ) from error
    except OSError as error:
        raise CannotCollect(f"COLLECT_DIR: {folder} cannot be used: {error.strerror or error}") from error


async def made(settings: Settings, load: Callable[[], Settings], runtime: Runtime, rest: BinanceRest) -> Collecting:
    """The collector, made without holding up the event loop. Raises CannotCollect."""
    return await asyncio.to_thread(Collecting, settings, load, runtime, rest)
