"""Brings up loopback in a new network namespace and replaces itself by the command in its arguments."""

import fcntl
import os
import socket
import struct
import sys
from typing import Final

SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
