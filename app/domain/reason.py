"""Why a request is refused for the moment: the words of the header X-Klinenode-Reason."""

from enum import StrEnum


class Reason(StrEnum):
    """One word for programs; docs/endpoints.md lists each with its meaning."""

    STAND_DOWN = "stand-down"
    WEIGHT = "weight"
    EXCHANGE = "exchange"
    CLOCK = "clock"
    NOT_WHOLE = "not-whole"
    NOT_HELD = "not-held"
    NOT_SYNCED = "not-synced"
    NOT_READY = "not-ready"
    BUSY = "busy"
    DATABASE = "database"
    WRITER = "writer"
    SLOW = "slow"
    COLLECTOR = "collector"

    @property
    def meaning(self) -> str:
        """The explanation for people."""
        return _MEANINGS[self]


_MEANINGS = {
    Reason.STAND_DOWN: "the exchange has told this address to stay away; Retry-After is when that ends",
    Reason.WEIGHT: "the exchange's limit is used up for the moment, or kept for what is more urgent",
    Reason.EXCHANGE: "the exchange does not answer, or gives what cannot be used",
    Reason.CLOCK: "the exchange has not confirmed what time it is, so the newest kline is unknown",
    Reason.NOT_WHOLE: "some of the klines are neither held nor given by the exchange",
    Reason.NOT_HELD: "it is not held, and the answer is of held rows alone: READ_THROUGH is off, batch, replay, as_of",
    Reason.NOT_SYNCED: "the exchange's list of symbols is not known yet, or is being read again",
    Reason.NOT_READY: "of /v1/ready: its body says what is missing",
    Reason.BUSY: "as many requests, connections or sockets are under way as may be",
    Reason.DATABASE: "the database cannot be read or written",
    Reason.SLOW: "the exchange or the database takes longer than clients wait; /v1/health says which",
    Reason.COLLECTOR: "there is no collector, or it cannot change at the moment what it follows",
    Reason.WRITER: "the process that writes does not answer; another takes over within seconds",
}
