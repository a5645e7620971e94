"""Every event has a sentence that people understand without reading the code."""

import pytest

from app import collector_events, events
from app.events import Event
from app.sentences import sentence
from tests.infra.test_telemetry import EVENTS

LENGTH_MAX = 400
FIRST_MINUTE = {
    events.StoreLinked: ("pysqlite3", "3.53.4"),
    events.LeaseChanged: ("writes the database",),
    events.NodeStarted: ("http://127.0.0.1:8000", "sqlite:///x", "https://fapi.binance.com"),
    events.SymbolsSynced: ("exchange answers", "2 symbols", "BTCUSDT"),
    events.WishEstimated: ("about 6 bytes",),
    events.SocketOpened: ("200 streams",),
    events.GapsCounted: ("95 of 100", "95 %", "5 are still to come"),
    events.NodeReady: ("Ready after 7 s", "http://127.0.0.1:8000/docs"),
    collector_events.CollectorFaultBegan: ("Okx: no socket", "/v1/health"),
    collector_events.CollectorFaultEnded: ("Over after 1.5 s: okx: no socket",),
    collector_events.FeedsChanged: ("feeds are followed now",),
}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_has_a_sentence_on_one_line(event: Event) -> None:
    said = sentence(event)
    assert said.isprintable()
    assert type(event).__name__ not in said, "a sentence, not the name of a class"
    assert " " in said
    assert said[0].isupper() or said[0].isdigit()
    assert len(said) <= LENGTH_MAX


@pytest.mark.parametrize("kind", FIRST_MINUTE, ids=lambda kind: kind.__name__)
def test_the_first_minute_says_what_happens(kind: type[Event]) -> None:
    [said] = {sentence(event) for event in EVENTS if type(event) is kind}
    assert [word for word in FIRST_MINUTE[kind] if word not in said] == []


def test_a_sentence_says_the_fields_and_times_as_people_read_them() -> None:
    assert sentence(events.SocketLost("0", "silent")) == "Socket 0 to the exchange failed and is opened again (silent)"
    assert "klinenode doctor" in sentence(events.ExchangeSilent(6, "no name"))
    assert "since 2025-12-23 11:30:00" in sentence(events.Relisted("LITUSDT", 1_766_489_400_000))
    assert sentence(events.GapsCounted(0, 0, 100)).startswith("Nothing is missing")
    assert "A B C and 597 more" in sentence(events.SymbolsSynced(600, ("A", "B", "C", *map(str, range(597))), ()))


def test_a_text_from_outside_cannot_forge_a_line() -> None:
    said = sentence(events.SocketLost("0", "bye\n12:00:00 ERROR   forged\x1b[2J"))
    assert "\n" not in said
    assert "\x1b" not in said
