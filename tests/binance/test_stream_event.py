import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance import stream_event
from app.binance.stream_event import ControlAnswer, KlineEvent, ServerShutdown, StreamFrame
from app.domain.interval import INTERVALS, M1
from app.domain.kline import BadKline

FRAME: dict[str, Any] = {
    "stream": "sushiusdt@kline_1m",
    "data": {
        "e": "kline",
        "E": 1626992760203,
        "s": "SUSHIUSDT",
        "k": {
            "t": 1626992700000,
            "T": 1626992759999,
            "s": "SUSHIUSDT",
            "i": "1m",
            "f": 126902874,
            "L": 126902986,
            "o": "7.6080",
            "c": "7.6170",
            "h": "7.6180",
            "l": "7.6070",
            "v": "3005",
            "n": 113,
            "x": True,
            "q": "22875.8590",
            "V": "1900",
            "Q": "14464.6960",
            "B": "0",
        },
    },
}  # fmt: skip  recorded 2021-07-22


def frame(**k: object) -> bytes:
    data = FRAME["data"]
    return json.dumps({**FRAME, "data": {**data, "k": {**data["k"], **k}}}).encode()


COMPACT = json.dumps(FRAME, separators=(",", ":")).encode()
HEAD = stream_event.head_of("SUSHIUSDT", M1)


class Unused:
    """A decoder that must not be used."""

    def decode(self, frame: bytes) -> None:
        raise AssertionError(f"decoded again: {frame!r}")


def test_the_event_of_a_decoded_frame_is_cut_out_of_it_without_decoding_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = stream_event.decode_any(COMPACT)
    monkeypatch.setattr(stream_event, "_any_decoder", Unused())
    assert stream_event.undecoded(COMPACT, HEAD) == said
    assert said == StreamFrame("sushiusdt@kline_1m", COMPACT[len(b'{"stream":"sushiusdt@kline_1m","data":') : -1])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"}}}", b'}},"id":1}'),
        (b"}}}", b'}},"x":{"y":{}}}'),
        (b"}}}", b'},"z":{"y":{}}}}'),
        (b"}}}", b'},"st":2}}'),
        (b"}}}", b"}}} "),
        (b"}}}", b"} } }"),
        (b'"B":"0"', b'"B":"{"'),
        (b'"B":"0"', b'"B":"}}}"'),
        (b'"B":"0"', b'"B":{}'),
        (b'"B":"0"', '"B":"币安人生"'.encode()),
        (b'"data":', b'"data": '),
        (b'"data":', b'"data":null,"data":'),
        (b'{"stream":', b'{"id":1,"stream":'),
        (b'{"stream":', b' {"stream":'),
        (b"}}}", b'}},"stream":"other@kline_1m"}'),
        (b"sushiusdt@", b"other@"),
        (b"sushiusdt@", b"s\\u0075shiusdt@"),
    ],
)
def test_the_event_of_a_frame_in_any_other_form_is_what_decoding_finds(old: bytes, new: bytes) -> None:
    changed = new.join(COMPACT.rsplit(old, 1))
    assert isinstance(stream_event.decode(changed), KlineEvent), "the sockets ingest it"
    said = stream_event.decode_any(changed)
    assert isinstance(said, StreamFrame)
    assert stream_event.undecoded(changed, HEAD) == said


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"B":"0"', b'"B":"\xff"'), (b'"stream":"sushiusdt@kline_1m",', b""), (b"sushiusdt@kline_1m", b"")],
)
def test_an_event_without_a_stream_or_that_is_no_text_is_not_for_clients(old: bytes, new: bytes) -> None:
    changed = COMPACT.replace(old, new)
    assert isinstance(stream_event.decode(changed), KlineEvent), "the sockets ingest it"
    assert stream_event.undecoded(changed, HEAD) is None


def test_a_recorded_closing_frame() -> None:
    event = stream_event.decode(frame())
    assert isinstance(event, KlineEvent)
    assert (event.symbol, event.interval, event.event_ms, event.is_final) == ("SUSHIUSDT", M1, 1626992760203, True)
    assert event.kline == (
        1626992700000, "7.6080", "7.6180", "7.6070", "7.6170", "3005", "22875.8590", 113, "1900", "14464.6960"
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"t": 1626992700001}, {"T": 1626992760000}, {"o": 7.6}, {"v": "NaN"}, {"n": "113"}, {"x": 1}, {"i": "1s"},
     {"s": "X"}, {"q": "1e9"}, {"i": None}],
)  # fmt: skip
def test_a_frame_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadKline):
        stream_event.decode(frame(**change))


@pytest.mark.parametrize("event_ms", [-1, 2**47 + 1, 10**400])
def test_an_event_time_that_no_clock_can_show_is_refused(event_ms: int) -> None:
    with pytest.raises(BadKline):
        stream_event.decode(frame().replace(b"1626992760203", str(event_ms).encode()))


@pytest.mark.parametrize(
    "bad", [b'{"x":' + b"[" * 200_000, b'{"stream":"\xff"}', '{"stream":"\ud800"}', "", "[]", "{}{}"]
)
def test_unreadable_frames_are_refused_whatever_is_wrong_with_them(bad: bytes | str) -> None:
    with pytest.raises(BadKline):
        stream_event.decode(bad)


def test_other_events_and_answers_to_control_messages() -> None:
    assert stream_event.decode('{"stream":"x@aggTrade","data":{"e":"aggTrade","E":1,"s":"X","p":"1"}}') is None
    assert stream_event.decode('{"result":null,"id":7}') == ControlAnswer(7, None)
    assert stream_event.decode('{"result":["a@kline_1m"],"id":"seven"}') == ControlAnswer("seven", None)
    answer = stream_event.decode('{"error":{"code":4,"msg":"Too many subscriptions"}}')
    assert isinstance(answer, ControlAnswer)
    assert "Too many subscriptions" in str(answer.error)


def test_stream_names_are_lower_case_and_keep_the_intervals_case() -> None:
    assert stream_event.kline_stream("BTCUSDT", INTERVALS["1M"]) == "btcusdt@kline_1M"
    assert json.loads(stream_event.subscribe(["币安人生usdt@kline_1m"], 3)) == {
        "method": "SUBSCRIBE", "params": ["币安人生usdt@kline_1m"], "id": 3
    }  # fmt: skip
    assert json.loads(stream_event.unsubscribe(["a"], 4))["method"] == "UNSUBSCRIBE"


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_no_frame_whatever_raises_anything_else(garbage: bytes | str) -> None:
    try:
        assert not isinstance(stream_event.decode(garbage), KlineEvent)
    except BadKline:
        return


@pytest.mark.parametrize(
    "text",
    [
        '{"event":{"e":"serverShutdown","E":1770123456789}}',
        '{"e":"serverShutdown","E":1770123456789}',
        '{"stream":"btcusdt@kline_1m","data":{"e":"serverShutdown","E":1770123456789}}',
        '{"stream":"","data":{"e":"serverShutdown","E":1770123456789,"reason":"maintenance"}}',
    ],
)
def test_the_announced_end_of_a_connection_is_heard_in_every_form(text: str) -> None:
    assert stream_event.decode(text) == ServerShutdown()


@pytest.mark.parametrize("text", ['{"event":{"e":"listenKeyExpired"}}', '{"e":"kline"}', '{"event":null}', "{}"])
def test_what_is_no_announcement_is_not_taken_for_one(text: str) -> None:
    assert isinstance(stream_event.decode(text), ControlAnswer)
