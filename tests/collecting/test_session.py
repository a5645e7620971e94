"""The session joins rules, sockets and requests: effects for everything, a wake for what is due, a status."""

import msgspec

from app.collecting.book_chain import BookRule
from app.collecting.effects import Close, Effect, Fetch, Open, Send
from app.collecting.ledger import SequenceLedger
from app.collecting.requests import FETCH_MS
from app.collecting.session import Session
from app.domain.records import BookSnapshot, DataType, Feed
from tests.collecting.made import BTC, SECOND, chance, emitted, feed, shown, trades_body, venue

TRADES = feed(DataType.TRADE)


def begin(*feeds: Feed) -> tuple[Session, list[Effect]]:
    session = Session(venue(), SequenceLedger(), BookRule(1_000), 1, chance())
    return session, session.follow(frozenset(feeds), 0)


def live(*feeds: Feed) -> Session:
    """A session whose first socket is open and subscribed."""
    session, _ = begin(*feeds)
    [send] = session.opened(1, 0)
    assert isinstance(send, Send)
    message = msgspec.json.decode(send.text)
    accepted = {"kind": "accepted", "id": message["id"], "names": message["names"]}
    assert session.received(1, msgspec.json.encode(accepted), 0) == []
    return session


def frame(*sequences: int, native: str = BTC.native) -> bytes:
    rows = [[each, str(each), "10.5", "1", each * 100] for each in sequences]
    return msgspec.json.encode({"kind": "trades", "native": native, "rows": rows})


def fetches(effects: list[Effect]) -> list[Fetch]:
    return [effect for effect in effects if isinstance(effect, Fetch)]


def test_a_gap_goes_from_the_frame_by_a_request_to_its_end() -> None:
    session = live(TRADES)
    assert shown(emitted(session.received(1, frame(5), 0))) == [5]
    effects = session.received(1, frame(8), 0)
    assert shown(emitted(effects)) == [("open", "sequence_broken", 6, 8), 8]
    [fetch] = fetches(effects)
    assert fetch.request.path == "/trades"
    assert session.status().feeds[0].open_gaps == 1
    answered = session.answered(fetch.fetch, 200, {}, trades_body(5, 6, 7, 8), 50)
    assert shown(emitted(answered)) == [6, 7, ("closed", "sequence_broken", 6, 8)]
    assert session.status().counters["gaps"] == 1


def test_a_refused_request_stops_all_requests_until_the_exchange_allows_them() -> None:
    session = live(TRADES)
    [fetch] = fetches(session.received(1, frame(5, 8), 0))
    assert fetches(session.answered(fetch.fetch, 429, {"retry-after": "7"}, b"", 0)) == []
    now_ms, again = 0, list[Fetch]()
    while not again:
        now_ms = max(now_ms + 1, session.wake_ms())
        again = fetches(session.tick(now_ms))
    assert 7 * SECOND <= now_ms < 15 * SECOND
    assert session.status().stand_down_ms == 7 * SECOND


def test_an_answer_that_is_garbage_or_never_comes_is_asked_for_again() -> None:
    session = live(TRADES)
    [fetch] = fetches(session.received(1, frame(5, 8), 0))
    session.answered(fetch.fetch, 200, {}, b"<html>", 0)
    assert session.status().counters["unreadable"] == 1
    now_ms, again = 0, list[Fetch]()
    while not again:
        now_ms = max(now_ms + 1, session.wake_ms())
        again = fetches(session.tick(now_ms))
    session.received(1, frame(9), now_ms)
    assert now_ms < FETCH_MS
    given_up_ms = now_ms + FETCH_MS
    session.tick(given_up_ms)
    assert emitted(session.answered(again[0].fetch, 200, {}, trades_body(6, 7), given_up_ms)) == [], "too late"


def test_garbage_and_frames_of_nobody_are_counted_and_stop_nothing() -> None:
    session = live(TRADES)
    session.received(1, frame(5), 0)
    assert session.received(1, b"{", 0) == []
    assert session.received(1, frame(1, native="ETHUSDT"), 0) == []
    assert session.received(77, frame(6), 0) == [], "a socket that is not ours"
    assert shown(emitted(session.received(1, frame(6), 0))) == [6]
    counters = session.status().counters
    assert (counters["unreadable"], counters["not_followed"]) == (1, 1)


def test_what_is_followed_changes_at_once_and_what_does_not_exist_is_named() -> None:
    unknown = Feed(BTC, DataType.KLINE, "7m")
    session, effects = begin(TRADES, unknown)
    assert [effect for effect in effects if isinstance(effect, Open)] == [Open(1, "/market")]
    assert session.status().not_offered == [unknown]
    assert session.follow(frozenset(), 0) == [Close(1)]
    assert session.status().feeds == []
    assert session.received(1, frame(5), 0) == []


def test_a_demand_of_the_exchange_is_answered() -> None:
    session = live(TRADES)
    assert session.received(1, b'{"kind":"test"}', 0) == [Send(1, '{"op":"pong"}')]


def test_a_book_that_begins_again_has_another_epoch() -> None:
    book = feed(DataType.ORDERBOOK)
    session, _ = begin(book)
    epochs = []
    for socket in (1, 2):
        session.opened(socket, socket * SECOND)
        update = {"kind": "book", "native": BTC.native, "snapshot": True, "first": 9, "last": 9, "previous": None}
        body = msgspec.json.encode(update | {"bids": [["9", "1"]], "asks": [["10", "1"]], "t": 5})
        epochs += [each.epoch for each in emitted(session.received(socket, body, socket * SECOND))]  # type: ignore[union-attr]
        session.follow(frozenset(), socket * SECOND)
        session.follow(frozenset({book}), (socket + 1) * SECOND)
    assert epochs == [1, 2]


def test_a_book_is_published_whole_again_when_it_is_asked_for() -> None:
    book = feed(DataType.ORDERBOOK)
    session, _ = begin(book)
    assert session.snapshot(BTC, 0) == [], "no book is held yet"
    session.opened(1, 0)
    update = {"kind": "book", "native": BTC.native, "snapshot": True, "first": 9, "last": 9, "previous": None}
    body = msgspec.json.encode(update | {"bids": [["9", "1"]], "asks": [["10", "1"]], "t": 5})
    [first] = emitted(session.received(1, body, 0))
    [again] = emitted(session.snapshot(BTC, SECOND))
    assert isinstance(first, BookSnapshot)
    assert isinstance(again, BookSnapshot)
    assert (again.bids, again.asks, again.sequence) == (first.bids, first.asks, first.sequence + 1)


def test_a_feed_that_is_left_ends_its_gaps_and_followed_again_has_them_filled() -> None:
    ledger = SequenceLedger()
    session = Session(venue(), ledger, BookRule(1_000), 1, chance())
    session.follow(frozenset({TRADES}), 0)
    [send] = session.opened(1, 0)
    assert isinstance(send, Send)
    records = emitted(session.received(1, frame(5, 9), 0))
    left = emitted(session.follow(frozenset(), 50))
    assert shown(left) == [("abandoned", "unsubscribed", 6, 9)]
    for record in (*records, *left):
        ledger.record(record)
    again = session.follow(frozenset({TRADES}), 60)
    assert shown(emitted(again)) == [("open", "start", 6, 9)]
    [fetch] = fetches(again)
    assert shown(emitted(session.answered(fetch.fetch, 200, {}, trades_body(5, 6, 7, 8, 9), 90))) == [
        *(6, 7, 8),
        ("closed", "start", 6, 9),
    ]


def test_a_feed_of_which_records_were_refused_begins_again_at_what_is_stored() -> None:
    ledger = SequenceLedger()
    session = Session(venue(), ledger, BookRule(1_000), 1, chance())
    session.follow(frozenset({TRADES, feed(DataType.TICKER)}), 0)
    [first, *refused] = emitted(session.received(1, frame(5, 6, 7), 0))
    ledger.record(first)
    for record in refused:
        ledger.refuse(record)
    assert shown(emitted(session.begin_again(frozenset({TRADES}), 100))) == [("open", "overflow", 6, 8)]
    assert len(session.status().feeds) == 2
