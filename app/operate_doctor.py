"""What the command doctor does: all checks at once, each within its time, and none changes anything."""

import asyncio
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx

from app import operate_doctor_servers as servers
from app.binance import server_time
from app.doctor import machine, network, wish
from app.doctor.finding import Finding, fail, warn
from app.domain import letters
from app.domain.interval import DAY_MS
from app.domain.span import Span
from app.filling.room import row_disk_bytes
from app.node.shared_path import shared_path
from app.node.stores import store_of
from app.node.tracing import traces_fault
from app.outbound import Destination
from app.ports.clock import Clock
from app.ports.probes import FileFacts, FolderFacts, Listener, Reached
from app.setting_values import own_address
from app.settings import UPSTREAMS, Settings, SettingsError, load
from app.sockets.connections import CONNECTIONS_MIN, FILES_BESIDE, SURPLUS_MAX
from infra.local.noted_stand_down import noted_stand_down
from infra.net.http import Answer
from infra.net.reach import Resolve, reach_families, reach_http, reach_socket, resolve
from infra.process.clock import SystemClock
from infra.process.folder_facts import MOUNTS, file_facts, folder_facts
from infra.process.listeners import listener_on
from infra.process.runtime_dir import beside

CHECK_S_MAX: Final = 10.0  # of one check; all run at once, so that the command ends soon after
WEIGHT: Final = 1  # REST weight that the command costs: one request for the exchange's time
NODE_S_MAX: Final = 2.0  # for a node on our port to say how it is
_TIME: Final = "/fapi/v1/time"
_SHARED_FILES: Final = ("weight", "token", "quotas")
_BESIDE_DATABASE: Final = ("lock",)
_SQLITE_FILES: Final = ("", "-wal", "-shm")

T = TypeVar("T")


class Surroundings(NamedTuple):
    """What the checks look at beside the settings; tests give others."""

    clock: Clock = SystemClock()
    resolving: Resolve = resolve
    mounts: Path = MOUNTS
    check_s_max: float = CHECK_S_MAX


async def examine(overrides: dict[str, object] | None = None, around: Surroundings | None = None) -> Sequence[Finding]:
    """The findings of all checks, in a fixed order. `overrides` win over environment and .env."""
    remarks: list[str] = []
    try:
        settings = load(overrides, asks_exchange=False, remark=remarks.append)
    except SettingsError as error:
        return [wish.unusable(str(error))]
    return await _Doctor(settings, remarks, around or Surroundings()).findings()


class _Doctor:
    """All checks of one call."""

    def __init__(self, settings: Settings, remarks: list[str], around: Surroundings) -> None:
        self._settings = settings
        self._remarks = remarks
        self._around = around
        self._shared = shared_path(settings)
        self._store = store_of(settings.db_url, timescale=settings.timescale)
        self._faults = settings.outbound_faults()

    async def findings(self) -> list[Finding]:
        checks: tuple[tuple[str, Callable[[], Awaitable[list[Finding]]]], ...] = (
            ("settings", self._of_settings),
            ("exchange", self._of_exchange),
            ("ipv6", self._of_ipv6),
            ("database", lambda: servers.of_database(self._settings)),
            ("replica", lambda: servers.of_replica(self._settings)),
            ("nats", lambda: servers.of_nats(self._settings)),
            ("redis", lambda: servers.of_redis(self._settings)),
            ("disk", self._of_disk),
            ("file-system", self._of_files),
            ("open-files", self._of_open_files),
            ("port", self._of_port),
        )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_within(name, check, self._around.check_s_max)) for name, check in checks]
        return [finding for task in running for finding in task.result()]

    async def _of_settings(self) -> list[Finding]:
        traces = [f"OTEL_… asks for traces, and {fault}"] if (fault := traces_fault()) else []
        return [wish.settings(self._settings, [*self._remarks, *traces], os.cpu_count() or 1)]

    async def _of_exchange(self) -> list[Finding]:
        certificates = [fault for fault in self._faults if fault.startswith("SSL_CERT")]
        proxies = [fault for fault in self._faults if not fault.startswith("SSL_CERT")]
        asked = [] if self._faults else await self._reach_all()
        reached = [each for _, each in asked if isinstance(each, Reached)]
        rest = dict(asked).get(UPSTREAMS[0])
        found = [
            each if isinstance(each, Finding) else network.upstream(_check_of(name), letters.upper(name), each)
            for name, each in asked
        ]
        if self._faults:
            found = [fail("binance-rest", "the exchange cannot be asked with these settings", self._faults[0])]
        return [
            *found,
            network.proxy(reached, proxies),
            network.certificates(reached, certificates, self._settings.ssl_cert_file),
            network.clock(rest if isinstance(rest, Reached) else None),
        ]

    async def _reach_all(self) -> list[tuple[str, Reached | Finding]]:
        """By setting: how far a request to its URL came, or a finding where none may be sent."""
        standing = await self._stand_down()
        names = [*UPSTREAMS, *self._settings.venue_urls()]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._reach(name, standing)) for name in names]
        return [(name, task.result()) for name, task in zip(names, running, strict=True)]

    async def _reach(self, name: str, standing: tuple[int, str] | None) -> Reached | Finding:
        clock = self._around.clock
        at = self._settings.destination(getattr(self._settings, name))
        if standing is not None and name in UPSTREAMS and "archive" not in name:
            return network.standing_down(_check_of(name), *standing, clock.now_ms())
        if name.endswith("_ws_url"):
            path = "/market/stream" if name in UPSTREAMS else ""
            return await reach_socket(Destination(at.url + path, at.egress), clock)
        return await reach_http(at, _TIME if name == UPSTREAMS[0] else "/", clock, _time_of)

    async def _stand_down(self) -> tuple[int, str] | None:
        """The latest stand-down that file or database have noted, if it is not over."""
        facts = await self._store.examine(self._settings.db_url)
        noted = await _apart(lambda: noted_stand_down(beside(self._shared, "weight")))
        latest = max((each for each in (facts.stand_down, noted) if each is not None), default=None)
        return latest if latest is not None and latest[0] > self._around.clock.now_ms() else None

    async def _of_ipv6(self) -> list[Finding]:
        url = self._settings.binance_rest_url
        if self._faults or self._settings.egress_to(url).proxy is not None:
            return [network.ipv6(None)]
        try:
            return [network.ipv6(await reach_families(url, self._around.resolving))]
        except OSError as error:
            return [warn("ipv6", f"{urlsplit(url).hostname} has no address: {error.strerror}", "see `binance-rest`")]

    async def _of_disk(self) -> list[Finding]:
        path = self._store.file(self._settings.db_url)
        folder = await _apart(lambda: self._folder(path.parent if path is not None else self._shared.parent))
        held_bytes = path.stat().st_size if path is not None and path.is_file() else 0
        needed_bytes = None if path is None else self._needed_bytes(held_bytes)
        return [machine.disk(folder, self._settings.disk_free_bytes_min if path is not None else 0, needed_bytes)]

    def _needed_bytes(self, held_bytes: int) -> int | None:
        """What history still needs of the disk; None while the exchange's list says how many symbols there are."""
        settings = self._settings
        if settings.auto_sync_symbols:
            return None
        now_ms = self._around.clock.now_ms()
        span = Span(now_ms - settings.backfill_days * DAY_MS, now_ms)
        klines = len(settings.symbols) * sum(each.grid.count(*span) for each in settings.interval_list)
        return max(0, klines * row_disk_bytes(settings.seal_after_days) - held_bytes)

    def _folder(self, path: Path) -> FolderFacts:
        return folder_facts(path, self._around.mounts)

    async def _of_files(self) -> list[Finding]:
        folders, files = await _apart(self._look_at_files)
        is_file = self._store.file(self._settings.db_url) is not None
        return [
            machine.file_system(folders, holds_database=is_file),
            machine.permissions(folders, files, os.geteuid()),
        ]

    def _look_at_files(self) -> tuple[list[FolderFacts], list[FileFacts]]:
        path = self._store.file(self._settings.db_url)
        folders = {self._shared.parent, *([] if path is None else [path.parent])}
        files = [beside(self._shared, ending) for ending in _SHARED_FILES]
        if path is not None:
            files += [beside(path, ending) for ending in _BESIDE_DATABASE]
            files += [path.with_name(path.name + ending) for ending in _SQLITE_FILES]
        found = [facts for each in files if (facts := file_facts(each)) is not None]
        return [self._folder(each) for each in sorted(folders)], found

    async def _of_open_files(self) -> list[Finding]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        others = self._settings.stream_clients_max + SURPLUS_MAX + FILES_BESIDE
        limit = None if hard == resource.RLIM_INFINITY else hard
        return [machine.open_files(limit, others + self._settings.connections_max, others + CONNECTIONS_MIN)]

    async def _of_port(self) -> list[Finding]:
        host, port = self._settings.host, self._settings.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            return [machine.no_address(host, str(error))]
        address = own_address(str(found[0][4][0]))
        if not await _connects(address, port):
            return [machine.port(host, port, None, None)]
        node = await _node_at(address, port)
        listener = await _apart(lambda: listener_on(port)) if node is None else Listener(None, "")
        return [machine.port(host, port, listener, node)]


async def _within(name: str, check: Callable[[], Awaitable[list[Finding]]], s_max: float) -> list[Finding]:
    try:
        async with asyncio.timeout(s_max):
            return await check()
    except TimeoutError:
        sentence = f"the check was not done within {s_max:.0f} s"
        return [fail(name, sentence, "something it looked at does not answer: a disk, a server, or the resolver")]
    except OSError as error:
        return [fail(name, f"the check could not be made: {error.strerror or error}", "run it as the node's user")]


async def _apart(work: Callable[[], T]) -> T:
    """Call `work` on a thread that ends with the process: a dead network disk would hold up one of a pool for ever."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: OSError | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except OSError as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    Thread(target=run, name="probe", daemon=True).start()
    return await done


def _check_of(setting: str) -> str:
    """`binance-rest` of binance_rest_url, `okx-sockets` of okx_ws_url."""
    return setting.removesuffix("_url").replace("_ws", "_sockets").replace("_", "-")


def _time_of(answer: Answer) -> int | None:
    try:
        return server_time.decode(answer.body)
    except server_time.BadServerTime:
        return None


async def _connects(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(NODE_S_MAX):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def _node_at(address: str, port: int) -> str | None:
    """The state of the node that answers there, for example "ok, writer"; None if it is another program."""
    host = f"[{address}]" if ":" in address else address
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=NODE_S_MAX) as client:
            report = (await client.get(f"http://{host}:{port}/v1/health")).json()
            return f"{report['status']}, {report['role']}"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
