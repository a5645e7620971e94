"""A real PgBouncer in front of a test's Postgres server."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer, _server_user
from tests.system.processes import free_port, until

_FOUND = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def bouncer(server: PostgresServer, pool_mode: str) -> Iterator[int]:
    """Start PgBouncer in front of `server`, and give its port. Skips the test if PgBouncer is not installed."""
    if _FOUND is None:
        pytest.skip("PgBouncer is not installed (Debian's package pgbouncer)")
    user, port = _server_user(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="bouncer-"))
    password = urlsplit(server.tcp_url()).password
    (folder / "users").write_text(f'"postgres" "{password}"\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder}/users\npool_mode = {pool_mode}\n"
    )
    folder.chmod(0o755)
    try:
        with (folder / "log").open("wb") as log:
            command = [_FOUND, str(folder / "ini")]
            process = subprocess.Popen(command, stdout=log, stderr=log, **user)
        try:
            yield port
        finally:
            process.kill()
            process.wait()
            print((folder / "log").read_text())
    finally:
        shutil.rmtree(folder)


async def answering(url: str) -> None:
    """Wait until PgBouncer answers at `url`."""

    async def answers() -> bool:
        try:
            connection = await asyncpg.connect(url, timeout=PATIENCE_S, statement_cache_size=0)
        except OSError:
            return False
        await connection.close()
        return True

    await until(answers, "PgBouncer answers", PATIENCE_S)
