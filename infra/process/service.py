"""What systemd is told: that the node is ready, that it stops, and that it lives (sd_notify(3), Type=notify).

A message is one datagram to the Unix socket that systemd names in NOTIFY_SOCKET. A name that begins with @ is abstract:
it has no file.
"""

import contextlib
import os
import socket
from collections.abc import Iterable
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"
BEAT_BYTES: Final = 8  # of the process id in a beat


class ServiceManager:
    """The sending end of the notifications. A message that cannot be sent is lost: systemd notices that none comes."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def tell(self, message: str) -> None:
        """Send one message, without waiting."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto(message.encode(), self._address)


class Watch:
    """Tells systemd of a server of one process, from its event loop: ready at the first call, alive at each."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._is_ready = False

    def __call__(self) -> None:
        """The event loop runs."""
        if not self._is_ready:
            self._is_ready = True
            self._manager.tell(READY)
        self._manager.tell(WATCHDOG)


class Beat:
    """A worker's event loop tells its parent that it runs; the parent receives it by `Beats`."""

    def __init__(self, sending: socket.socket) -> None:
        self._sending = sending

    def __call__(self) -> None:
        """The event loop of this process runs."""
        with contextlib.suppress(OSError):  # the parent has ended, or reads nothing
            self._sending.send(os.getpid().to_bytes(BEAT_BYTES, "little"), socket.MSG_DONTWAIT)


class Beats:
    """Tells systemd of a server of several workers, from their parent: alive while the event loop of each one runs."""

    def __init__(self, manager: ServiceManager, late_s: float) -> None:
        self._manager = manager
        self._late_s = late_s
        self._receiving, self._sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiving.setblocking(False)
        self.beat = Beat(self._sending)
        """For the workers."""
        self._heard_s: dict[int, float] = {}
        self._is_ready = False

    def close(self) -> None:
        """Close the sockets."""
        self._receiving.close()
        self._sending.close()

    def look(self, workers: Iterable[int], now_s: float) -> None:
        """Note which workers have reported, and report in turn if none of `workers` (process ids) is late."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._heard_s[int.from_bytes(self._receiving.recv(BEAT_BYTES), "little")] = now_s
        self._heard_s = {each: self._heard_s[each] for each in workers if each in self._heard_s}
        if not self._heard_s or any(now_s - self._heard_s.get(each, -self._late_s) >= self._late_s for each in workers):
            return
        if not self._is_ready:
            self._is_ready = True
            self._manager.tell(READY)
        self._manager.tell(WATCHDOG)
