"""Who listens on a port of this machine, by /proc; empty answers where the system has none, or hides others' files."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.ports.probes import Listener

PROC: Final = Path("/proc")
COMMAND_CHARS_MAX: Final = 60  # of a command line that a sentence repeats
_LISTEN: Final = "0A"  # the state in /proc/net/tcp


def listener_on(port: int, proc: Path = PROC) -> Listener:
    """The process that listens on `port`, as far as this user may see it."""
    inodes = _inodes(port, proc)
    if inodes:
        for entry in proc.iterdir():
            if entry.name.isdigit() and _has_one(entry / "fd", inodes):
                return Listener(int(entry.name), _command(entry))
    return Listener(None, "")


def _inodes(port: int, proc: Path) -> set[str]:
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{words[9]}]")
    return found


def _has_one(folder: Path, inodes: set[str]) -> bool:
    with suppress(OSError):  # another user's process, or one that has ended meanwhile
        for each in folder.iterdir():
            with suppress(OSError):
                if os.readlink(each) in inodes:  # noqa: PTH115  Path.readlink makes a path of "socket:[1]"
                    return True
    return False


def _command(entry: Path) -> str:
    with suppress(OSError):
        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join(words).strip()[:COMMAND_CHARS_MAX]
    return ""
