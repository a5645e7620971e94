"""The addresses that a node can listen on, and the errors for those it cannot."""

import errno
import socket
from typing import Any

import pytest

from app.listening import listen
from app.node.prepare import CannotStart
from app.settings import load


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def only_loopback_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow binding to loopback addresses only; some machines would allow any."""
    bind = socket.socket.bind

    def bind_loopback(self: socket.socket, address: tuple[str, int]) -> None:
        if not address[0].startswith("127."):
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind_loopback)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "[::1]", "localhost", "0.0.0.0", "::"])
def test_what_the_settings_take_can_be_listened_on(text: str) -> None:
    if ":" in text and not has_ipv6():
        pytest.skip("no IPv6 here")
    with listen(load({"host": text}, env_file=None).host, 0) as listener:
        assert listener.getsockname()[1] > 0
        assert listener.get_inheritable()


@pytest.mark.parametrize(
    "host", ["x86_64-conda-linux-gnu", "192.0.2.1", "2001:db8::1", "fe80::1%nowhere", "name.invalid"]
)
def test_what_is_not_ours_names_the_setting(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only_loopback_is_ours(monkeypatch)
    with pytest.raises(CannotStart, match="HOST") as caught:
        listen(host, 0)
    assert host in str(caught.value)
    assert "--host" in str(caught.value)


def test_a_port_that_is_taken_names_the_setting() -> None:
    with listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(CannotStart, match=f"PORT {port}: another program uses that port"):
            listen("127.0.0.1", port)


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def resolve(_host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_the_first_address_of_a_name_that_is_ours_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost is ::1 first, even on machines without IPv6."""
    only_loopback_is_ours(monkeypatch)
    names(monkeypatch, "192.0.2.1", "127.0.0.1")
    with listen("my.box", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    names(monkeypatch, "192.0.2.1", "192.0.2.2")
    with pytest.raises(CannotStart, match=r"HOST my\.box"):
        listen("my.box", 0)


def test_a_port_that_needs_a_right_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(CannotStart, match="PORT 80: Permission denied; ports below 1024"):
        listen("127.0.0.1", 80)
