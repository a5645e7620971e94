"""What a command imports before it starts: a small command must not load the whole node."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND_S_MAX = 60.0
NODE = {
    "aiosqlite",
    "alembic",
    "app.node.node",
    "app.operate",
    "app.server",
    "app.listening",
    "fastapi",
    "httpx",
    "msgspec",
    "nats",
    "orjson",
    "prometheus_client",
    "sqlalchemy",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
    "websockets",
}
PROGRAM = """
import sys
from app.cli import main
sys.argv = ["klinenode", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write("\\n".join(sys.modules))
"""


SETTINGS = {"asyncio", "app.settings"}
NOT_NEEDED = {
    "--version": SETTINGS | {"pydantic", "rich"},
    "--help": SETTINGS | {"pydantic"},
    "config": {"rich"},
    "config --sample": {"rich"},
    **{f"{name} --help": SETTINGS for name in ("serve", "demo", "sandbox", "backfill", "gaps", "verify", "config")},
}


@pytest.mark.parametrize("command", NOT_NEEDED)
def test_a_command_imports_what_it_needs_and_no_more(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split()],
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout, "it has said something"
    imported = set(done.stderr.splitlines())
    assert "app.cli" in imported
    assert imported & (NODE | NOT_NEEDED[command]) == set()


def test_a_node_imports_no_client_of_nats_or_postgres_no_alembic_and_no_traces_before_it_needs_them() -> None:
    late = {
        "nats",
        "sqlalchemy",
        "alembic",
        "asyncpg",
        "infra.tracing",
        "opentelemetry.sdk",
        "google.protobuf",
        "requests",
    }
    program = f"import sys, app.node.node, app.server; assert not {late} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], timeout=COMMAND_S_MAX, check=True)


def test_without_its_packages_a_node_that_is_asked_for_traces_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None  # as if it were not installed
from app.node.tracing import traces_of
found = traces_of("http://127.0.0.1:8000")
print(found.are_sent, found.requests, found.fault)
"""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=COMMAND_S_MAX, check=True
    )
    assert done.stdout.startswith("False None the packages that send them are not installed: call `make otel`")


def test_a_process_that_only_collects_imports_no_database() -> None:
    program = "import sys, app.collect; assert not {'sqlalchemy', 'alembic', 'app.node.node'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], timeout=COMMAND_S_MAX, check=True)


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    from importlib.metadata import version

    done = subprocess.run(
        [str(Path(sys.executable).parent / "klinenode"), "--version"],
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout == f"klinenode {version('klinenode')}\n"
