"""Binance's side of one socket without I/O, as infra/sandbox/peers.py describes it."""

from collections.abc import Iterable

import orjson

from infra.sandbox.commands import Command, CommandError, RequestId, parse_command
from infra.sandbox.faults import FaultBoard, Target
from infra.sandbox.feeds import FeedHub
from infra.sandbox.peers import STREAMS_MAX, Peer
from infra.sandbox.sockets import LEGACY_ROUTE, parse_address
from infra.sandbox.stream_names import route_of


class BinancePeer(Peer):
    """Answers control messages and pushes events. All peers of a hub must be served at the same times."""

    def __init__(self, hub: FeedHub, faults: FaultBoard, path: str, query: str, now_ms: int) -> None:
        super().__init__("binance", faults, path, now_ms)
        address = parse_address(path, query)
        assert address is not None, f"Binance has no socket at {path}"
        self._hub, self._route, self._combined = hub, address.route or LEGACY_ROUTE, address.combined
        self._subscribed: dict[str, None] = {}
        self._events: list[str] = []
        self._add(address.streams)

    def deliver(self, stream: str, event: str) -> None:
        """Accept an event of the hub."""
        self._events.append(f'{{"stream":"{stream}","data":{event}}}' if self._combined else event)

    def close(self, code: int, reason: str) -> None:
        """End the connection and its subscriptions."""
        super().close(code, reason)
        self._hub.unsubscribe(self, self._subscribed)

    def _due(self, now_ms: int) -> list[str]:
        self._hub.tick(now_ms)
        events, self._events = self._events, []
        return events

    def _names(self) -> tuple[str, ...]:
        return tuple(self._subscribed)

    def _answers(self, text: str, now_ms: int) -> list[str]:
        try:
            command = parse_command(text)
            self._admit(command, now_ms)
        except CommandError as error:
            body: dict[str, object] = {"error": {"code": error.code, "msg": error.msg}}
            return [_text(body if error.request_id is None else {**body, "id": error.request_id})]
        return [self._execute(command)]

    def _admit(self, command: Command, now_ms: int) -> None:
        fault = self.faults.take("error_answer", Target(path=self.path, streams=command.streams), now_ms)
        if fault is not None:
            raise CommandError(fault.code or 1, "The sandbox was told to refuse this.", command.request_id)

    def _execute(self, command: Command) -> str:
        match command.method:
            case "SUBSCRIBE":
                self._add(command.streams)
            case "UNSUBSCRIBE":
                self._hub.unsubscribe(self, command.streams)
                for name in command.streams:
                    self._subscribed.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                return _result(list(self._subscribed), command.request_id)
            case "SET_PROPERTY":
                self._combined = command.value
            case _:
                return _result(self._combined, command.request_id)
        return _result(None, command.request_id)

    def _add(self, names: Iterable[str]) -> None:
        added = [name for name in dict.fromkeys(names) if name not in self._subscribed]
        self._subscribed.update(dict.fromkeys(added[: STREAMS_MAX - len(self._subscribed)]))
        self._hub.subscribe(self, [name for name in added if route_of(name) == self._route])

    def _notice(self, now_ms: int) -> list[str]:
        return [f'{{"event":{{"e":"serverShutdown","E":{now_ms}}}}}']


def _result(value: object, request_id: RequestId) -> str:
    return _text({"result": value, "id": request_id})


def _text(body: object) -> str:
    return orjson.dumps(body).decode()
