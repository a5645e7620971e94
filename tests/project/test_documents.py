"""What the README and the sample file must name, they name."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main
from fastapi import FastAPI

from app.cli import app as command_line
from app.domain.reason import Reason
from app.http.refused import REFUSED
from app.market.endpoints import ENDPOINTS
from app.node.node import Node
from app.settings import Settings, load, sample

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()


def fastapi_of(asgi: Any) -> FastAPI:
    """The FastAPI application inside its pure ASGI layers."""
    seen = []
    while not isinstance(asgi, FastAPI):
        seen.append(type(asgi).__name__)
        inner = [value for name in ("app", "_app") if (value := getattr(asgi, name, None)) is not None]
        assert inner, f"no FastAPI inside {seen}"
        asgi = inner[0]
    return asgi


def routes(folder: Path) -> list[str]:
    node = Node(load({"db_url": f"sqlite:///{folder}/k.db"}, env_file=None))
    paths: dict[str, dict[str, object]] = fastapi_of(node.app).openapi()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")[2].strip(" `")
        for line in README.splitlines()
        if line.startswith("| `")
    }
    assert [name.upper() for name in Settings.model_fields if name.upper() not in rows] == []
    defaults = dict(line.split("=", 1) for line in sample().splitlines() if line and not line.startswith("#"))
    wrong = [name for name, default in defaults.items() if rows[name].replace("–", "") != default]
    assert wrong == []


def test_every_route_stands_in_the_readme(tmp_path: Path) -> None:
    found = routes(tmp_path)
    assert len(found) >= 10
    assert [route for route in found if f"`{route}`" not in README] == []


def test_the_readme_says_how_every_endpoint_is_answered() -> None:
    for endpoint in ENDPOINTS.values():
        assert f"| `GET {endpoint.path}` | {endpoint.mode.value} | {endpoint.holds_text} |" in README.splitlines()
    (refused,) = [line for line in README.splitlines() if "| refused |" in line]
    named = re.findall(r"`([A-Z]+) (/[^`]*)`", refused)
    assert named == [(method, path) for path, methods in REFUSED.items() for method in methods]


def test_every_route_of_the_readme_exists(tmp_path: Path) -> None:
    others = {"GET /", "GET /docs", "GET /openapi.json", "POST /sandbox/faults"}  # pages, and the sandbox's
    named = set(re.findall(r"`((?:GET|POST) /[^`]*)`", README))
    assert named - others <= set(routes(tmp_path))


def test_every_command_stands_in_the_readme() -> None:
    commands = set(typer.main.get_command(command_line).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"klinenode (serve|demo|sandbox|backfill|gaps|verify|export|config)\b", README))
    assert commands == named


def test_the_sample_file_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.sample").read_text() == sample(), "run `make env-sample`"


def test_the_sample_file_means_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    assert load(env_file=ROOT / ".env.sample") == load(env_file=None)


def test_every_reason_of_a_503_is_in_the_readme() -> None:
    for reason in Reason:
        assert f"| `{reason}` | {reason.meaning[0].upper()}{reason.meaning[1:]}. |" in README.splitlines()


def test_no_503_is_made_without_its_reason() -> None:
    """Beside the functions that take it, nobody writes the number."""
    made = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if re.search(r"(?:ApiError|BinanceError|own_response|json_response|refusal)\([^)]*\b503\b", path.read_text())
    }
    assert made == {"app/http/errors.py", "app/http/ops.py", "app/binance/error_body.py"}


def test_every_fact_that_the_code_cites_stands_in_the_documents() -> None:
    numbers = r"\d(?:\.\d)?"
    sections = set(re.findall(rf"^##+ ({numbers})\.? ", (ROOT / "docs/binance-facts.md").read_text(), re.MULTILINE))
    cited, unnumbered = set[str](), []
    for top in ("app", "infra", "migrations", "tests"):
        for path in (ROOT / top).rglob("*.py"):
            if path == Path(__file__):
                continue
            for behind in path.read_text().split("binance-facts")[1:]:
                found = re.match(rf"\s+(?:sections? )?({numbers}(?:(?:–|, | and ){numbers})*)", behind)
                if found is None:
                    unnumbered.append(f"{path}: binance-facts{behind[:20]!r}")
                else:
                    cited |= set(re.findall(numbers, found[1]))
    assert unnumbered == []
    assert len(cited) > 15
    assert cited - sections == set()
