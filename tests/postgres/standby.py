"""A real streaming replica of a test's Postgres server."""

import subprocess
from pathlib import Path

from tests.postgres_server import START_S_MAX, PostgresServer


class Standby(PostgresServer):
    """A replica of `primary`, made by pg_basebackup, which follows it until it ends."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = primary

    def _make(self) -> None:
        super()._make()
        copy = self._folder / "copy"
        source = f"host={self._primary._folder} port={self._primary.port} user=postgres"
        command = [str(self._bin / "pg_basebackup"), "-D", str(copy), "-d", source, "-R", "-X", "stream", "-c", "fast"]
        made = subprocess.run(
            [*command, "--no-sync"], capture_output=True, text=True, timeout=START_S_MAX, cwd=self._folder, **self._user
        )
        assert made.returncode == 0, f"pg_basebackup failed:\n{made.stderr}"
        self._data: Path = copy
