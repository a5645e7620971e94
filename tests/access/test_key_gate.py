"""The gate counts each key by minute, says when the next one begins, and closes the sockets of keys that are gone."""

import hashlib

from app.access.api_keys import NO_KEY, ApiKeys, line_of
from app.access.key_gate import KeyGate
from tests.access.quota import FakeQuota
from tests.fakes import ManualClock

KEYS = {name: name * 64 for name in "abc"}
CALLERS = {name: hashlib.sha256(key.encode()).digest() for name, key in KEYS.items()}


def keys(**quotas: int) -> ApiKeys:
    return ApiKeys.parse("".join(f"{line_of(name, KEYS[name], n)}\n" for name, n in quotas.items()).encode())


class Socket:
    def __init__(self) -> None:
        self.is_revoked = False

    def revoke(self) -> None:
        self.is_revoked = True


def statuses(gate: KeyGate, name: str, times: int) -> list[int]:
    return [0 if (refused := gate.admit(CALLERS[name])) is None else refused.status for _ in range(times)]


def test_a_key_has_its_requests_in_each_minute_and_no_more() -> None:
    clock = ManualClock(1_800_000_000_000)
    gate = KeyGate(clock, FakeQuota())
    gate.use(keys(a=3, b=1))
    assert statuses(gate, "a", 5) == [0, 0, 0, 429, 429]
    assert statuses(gate, "b", 2) == [0, 429]
    refused = gate.admit(CALLERS["a"])
    assert refused is not None
    assert (refused.code, refused.retry_after_s) == (-1003, 60)
    clock.ms += 59_999
    refused = gate.admit(CALLERS["a"])
    assert refused is not None
    assert refused.retry_after_s == 1
    clock.ms += 1
    assert statuses(gate, "a", 4) == [0, 0, 0, 429]
    assert dict(gate.admitted) == {"a": 6, "b": 1}
    assert gate.refused["quota"] == 6


def test_missing_and_unknown_keys_are_told_apart_as_at_binance() -> None:
    gate = KeyGate(ManualClock(), FakeQuota())
    assert gate.admit(CALLERS["a"]) is not None, "a gate that has read no file admits nobody"
    gate.use(keys(a=3))
    for caller, code in ((NO_KEY, -2014), (CALLERS["b"], -2015)):
        refused = gate.admit(caller)
        assert refused is not None
        assert (refused.status, refused.code) == (401, code)
    assert dict(gate.refused) == {"missing": 1, "unknown": 2, "quota": 0}


def test_looking_a_key_up_counts_nothing() -> None:
    gate = KeyGate(clock := ManualClock(), FakeQuota())
    gate.use(keys(a=1))
    assert all(gate.find(CALLERS["a"], clock.now_ms()) is not None for _ in range(5))
    assert statuses(gate, "a", 2) == [0, 429]
    assert gate.find(CALLERS["a"], clock.now_ms()) is None


def test_a_new_file_closes_the_sockets_of_keys_that_are_gone_and_no_others() -> None:
    gate = KeyGate(ManualClock(), FakeQuota())
    gate.use(keys(a=9, b=9))
    sockets = {name: Socket() for name in "ab"}
    for name, held in sockets.items():
        gate.enter(CALLERS[name], held)
    gone = Socket()
    gate.enter(CALLERS["b"], gone)
    gate.leave(CALLERS["b"], gone)
    gate.use(keys(a=1, c=5))
    assert {name: held.is_revoked for name, held in sockets.items()} == {"a": False, "b": True}
    assert not gone.is_revoked
    assert (statuses(gate, "a", 2), statuses(gate, "b", 1), statuses(gate, "c", 1)) == ([0, 429], [401], [0])


def test_a_row_that_became_another_keys_does_not_keep_the_former_ones_count() -> None:
    gate = KeyGate(ManualClock(), FakeQuota())
    gate.use(keys(a=2))
    assert statuses(gate, "a", 2) == [0, 0]
    gate.use(keys(b=2))
    assert statuses(gate, "b", 3) == [0, 0, 429]


def test_monitoring_and_the_pages_that_explain_need_no_key() -> None:
    gate = KeyGate(ManualClock(), FakeQuota())
    for path in ("/", "/docs", "/docs/start.js", "/openapi.json", "/v1/health", "/v1/ready", "/metrics"):
        assert gate.is_open(path)
    for path in ("/fapi/v1/klines", "/v1/coverage", "/v1/verification", "/v1/health/", "/docsx", "/nothing", "/ws"):
        assert not gate.is_open(path)
