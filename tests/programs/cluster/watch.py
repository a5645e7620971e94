"""What the database shows of its writers: who holds the lease, what is committed, and by whom."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import asyncpg
import httpx

from infra.postgres.reach import FAULTS
from tests.postgres_server import execute, on_connection
from tests.system.processes import Place, pause, seconds

LOOK_EVERY_S: Final = 0.1
ROLE_EVERY_S: Final = 0.25
LOOK_S_MAX: Final = 2.0
ROLE_S_MAX: Final = 1.0

_AUDIT: Final = (
    "CREATE SCHEMA audit",
    "CREATE TABLE audit.commit (id bigint GENERATED ALWAYS AS IDENTITY, who text, epoch bigint)",
    """CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO audit.commit (who, epoch) SELECT session_user, epoch FROM public.writer; RETURN NULL; END $$""",
    "CREATE TRIGGER audit AFTER INSERT ON change FOR EACH STATEMENT EXECUTE FUNCTION audit.note()",
)
_LOCKS: Final = (
    "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted "
    "AND application_name = 'klinenode lease'"
)
_LOOK: Final = f"""
SELECT (SELECT count(*) FROM ({_LOCKS}) AS locks),
    (SELECT backend_pid FROM lease_holder WHERE backend_pid IN ({_LOCKS})),
    (SELECT url FROM lease_holder WHERE backend_pid IN ({_LOCKS})),
    (SELECT epoch FROM writer),
    (SELECT min(newest) FROM (
        SELECT (SELECT max(open_time) FROM kline_1m WHERE symbol = name) AS newest FROM unnest($1::text[]) AS name
    ) AS each)
"""


class Look(NamedTuple):
    """What one look into the database has shown."""

    at_s: float
    holders: int
    """How many sessions have the lock of the lease."""
    session: int | None
    """The server's process id of the session that holds the lease and has noted its address."""
    url: str | None
    epoch: int
    newest_ms: int
    """The open time of the newest 1m kline that is committed of every symbol."""


class Commits(NamedTuple):
    """What the trigger in every transaction of a writer has noted."""

    number: int
    writers: int
    """How many epochs there were in which something was committed."""
    trespasses: int
    """Commits of a user who is not the epoch's writer, or which came after those of a later epoch."""


def trespasses(commits: Sequence[tuple[str, int]]) -> int:
    """How many commits, each with user and epoch, were made by somebody else than the writer of the time."""
    writer_of: dict[int, str] = {}
    newest, found = 0, 0
    for who, epoch in commits:
        found += epoch < newest or writer_of.setdefault(epoch, who) != who
        newest = max(newest, epoch)
    return found


@dataclass
class Watch:
    """Looks into the primary at `url` all the time, and asks each node for its role."""

    url: str
    symbols: Sequence[str]
    places: Sequence[Place]
    looks: list[Look] = field(default_factory=list)
    claims: list[tuple[float, int]] = field(default_factory=list)
    """How many nodes said at a time that they write."""
    _claiming: dict[int, bool] = field(default_factory=lambda: defaultdict(bool))

    async def prepare(self) -> None:
        """Let the database note each commit from now on, by its user and the epoch that counts."""
        await execute(self.url, *_AUDIT)

    async def commits(self) -> Commits:
        """What was noted since `prepare`."""
        rows = await on_connection(self.url, lambda each: each.fetch("SELECT who, epoch FROM audit.commit ORDER BY id"))
        found = [(str(row["who"]), int(row["epoch"])) for row in rows]
        return Commits(len(found), len({epoch for _, epoch in found}), trespasses(found))

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_for_ever())
            for place in self.places:
                tasks.create_task(self._ask_for_ever(place))

    @property
    def last(self) -> Look:
        """The newest look."""
        return self.looks[-1]

    def committed_s(self, minute_ms: int) -> float | None:
        """When the 1m klines that open at `minute_ms` were seen to be committed of all symbols; None: not yet."""
        return next((look.at_s for look in self.looks if look.newest_ms >= minute_ms), None)

    def holders_max(self, start_s: float, end_s: float) -> int:
        """The most sessions that had the lock of the lease at once."""
        return max((look.holders for look in self.looks if start_s <= look.at_s <= end_s), default=0)

    def claims_max(self, start_s: float, end_s: float) -> int:
        """The most nodes that said at once that they write."""
        return max((number for at_s, number in self.claims if start_s <= at_s <= end_s), default=0)

    async def _look_for_ever(self) -> None:
        connection: asyncpg.Connection | None = None
        try:
            while True:
                try:
                    if connection is None:
                        connection = await asyncpg.connect(self.url, timeout=LOOK_S_MAX, command_timeout=LOOK_S_MAX)
                    row = await connection.fetchrow(_LOOK, list(self.symbols))
                    self.looks.append(Look(seconds(), *row))
                except FAULTS:  # the server is away
                    if connection is not None:
                        connection.terminate()
                    connection = None
                await pause(LOOK_EVERY_S)
        finally:
            if connection is not None:
                connection.terminate()

    async def _ask_for_ever(self, place: Place) -> None:
        while True:
            try:
                async with place.http() as client:
                    answer = await client.get("/v1/health", timeout=ROLE_S_MAX)
                is_claiming = answer.json()["role"] == "writer"
            except httpx.TransportError:  # it is dead or suspended, and says nothing
                is_claiming = False
            self._claiming[place.port] = is_claiming
            self.claims.append((seconds(), sum(self._claiming.values())))
            await pause(ROLE_EVERY_S)
