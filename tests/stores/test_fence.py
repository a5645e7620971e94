"""Of two writers only the newer one can commit, whatever the older one assumes."""

from collections.abc import Awaitable, Callable

import pytest

from app.domain.interval import MINUTE_MS
from app.domain.kline import Precision
from app.domain.ledger import Source
from app.domain.listing import Listing
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.ports.errors import StoreUnavailable
from app.ports.store import Disagreement, Relisting
from tests.sqlite.material import BTC_1M, NOW_MS, T0_MS, FixedClock, batch, everything, klines, minutes
from tests.stores.databases import Database, OpenReader, OpenWriter

OLD = Listing("BTCUSDT", 0, 1 << 42, Precision(2, 3))
NEW = Listing("BTCUSDT", T0_MS, 1 << 42, Precision(2, 3), T0_MS)

WRITES: dict[str, Callable[[OpenWriter], Awaitable[object]]] = {
    "commit": lambda store: store.commit([batch(BTC_1M, Source.REST, minutes((5, 9)), mark=1)]),
    "seal": lambda store: store.seal(BTC_1M, everything()),
    "unseal": lambda store: store.unseal(BTC_1M, everything()),
    "give_up": lambda store: store.give_up(BTC_1M, Span(T0_MS, T0_MS + 4 * MINUTE_MS)),
    "save_stand_down": lambda store: store.save_stand_down(NOW_MS, "418"),
    "save_document": lambda store: store.save_document("exchangeInfo", b"{}", NOW_MS),
    "save_listings": lambda store: store.save_listings([NEW]),
    "relist": lambda store: store.relist(Relisting(OLD, NEW, {KLINES: T0_MS}, keeps_newer=False)),
    "unlist": lambda store: store.unlist(OLD, T0_MS),
    "save_anchor": lambda store: store.save_anchor("BTCUSDT", T0_MS),
    "save_verified": lambda store: store.save_verified(BTC_1M, minutes((0, 5)), NOW_MS + 1),
    "save_disagreement": lambda store: store.save_disagreement(
        Disagreement(BTC_1M, T0_MS, BTC_1M.interval, "[]", "[]", NOW_MS)
    ),
    "save_extra_wishes": lambda store: store.save_extra_wishes({BTC_1M: Span(T0_MS, NOW_MS)}),
    "withdraw_extra_wishes": lambda store: store.withdraw_extra_wishes({BTC_1M: Span(T0_MS, NOW_MS)}),
}


async def everything_stored(reader: OpenReader) -> list[object]:
    snapshot = await reader.read(BTC_1M, everything(), 99)
    ledgers = {series: ledger.entries for series, ledger in (await reader.ledgers()).items()}
    verified = {series: found.checks for series, found in (await reader.verifications()).items()}
    others = [
        await reader.stand_down(), await reader.document("exchangeInfo"), await reader.listings(),
        await reader.anchors(), await reader.disagreements(), await reader.extra_wishes(), await reader.revisions(),
    ]  # fmt: skip
    return [snapshot.rows, ledgers, verified, *others]


def test_every_write_of_the_port_is_tried() -> None:
    port = {name for base in OpenWriter.__mro__ for name in vars(base) if not name.startswith("_")}
    readers = {name for base in OpenReader.__mro__ for name in vars(base) if not name.startswith("_")}
    assert port - readers == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
async def test_a_deposed_writer_changes_nothing(
    database: Database, writer: OpenWriter, reader: OpenReader, name: str
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 5)))])
    newer = await database.writer(FixedClock())
    before = await everything_stored(reader)
    with pytest.raises(StoreUnavailable, match="another process has become the writer"):
        await WRITES[name](writer)
    assert await everything_stored(reader) == before
    assert (await writer.read(BTC_1M, everything(), 9)).rows == klines(minutes((0, 5)), BTC_1M.interval.grid)
    await WRITES[name](newer)
    await newer.close()


async def test_a_writer_goes_on_when_readers_come_and_go(database: Database, writer: OpenWriter) -> None:
    for minute in range(3):
        reader = await database.reader()
        await writer.commit([batch(BTC_1M, Source.REST, minutes((minute, minute + 1)))])
        assert len((await reader.read(BTC_1M, everything(), 9)).rows) == minute + 1
        await reader.close()


async def test_a_commit_of_nothing_tells_a_writer_that_it_was_replaced(writer: OpenWriter, database: Database) -> None:
    assert await writer.commit([]) == []
    newer = await database.writer(FixedClock())
    try:
        with pytest.raises(StoreUnavailable, match="another process has become the writer"):
            await writer.commit([])
    finally:
        await newer.close()
