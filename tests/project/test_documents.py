"""The documents name everything they must, everything they name exists, and their tables agree with the code."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from app.domain.reason import Reason
from app.http.refused import REFUSED
from app.market.endpoints import ENDPOINTS
from app.settings import Settings, load, sample
from tests.project.documents import BLOCK, BLOCKS, ROOT, commands, documents, generated, summaries

DOCS: Final = ROOT / "docs"
README: Final = (ROOT / "README.md").read_text()
CHINESE: Final = (ROOT / "README.zh-CN.md").read_text()
ARCHITECTURE: Final = (ROOT / "ARCHITECTURE.md").read_text()
ENDPOINTS_PAGE: Final = (DOCS / "endpoints.md").read_text()
SETTINGS_PAGE: Final = (DOCS / "settings.md").read_text()
OPERATIONS_PAGE: Final = (DOCS / "operations.md").read_text()
PAGES: Final = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
MAKE: Final = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
README_LINES_MAX: Final = 120
ARCHITECTURE_LINES_MAX: Final = 110
ROW_CHARS_MAX: Final = 200
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(text: str, language: str = "") -> list[str]:
    """The code blocks of a document in `language`, or all of them."""
    return re.findall(rf"^```{language or r'[a-z]*'}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def lines_of_shell(path: Path) -> list[str]:
    return [line for block in blocks(path.read_text(), "sh") for line in block.splitlines()]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_the_tables_of_a_document_are_what_the_code_says(path: Path, tmp_path: Path) -> None:
    assert path.read_text() == generated(path.read_text(), tmp_path), "run `make docs`"


def test_everything_that_is_generated_stands_in_one_document() -> None:
    named = [name for path in documents() for _, name, _ in BLOCK.findall(path.read_text())]
    assert sorted(named) == sorted(BLOCKS)


def test_every_setting_is_documented_with_its_default() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")[2].strip(" `")
        for line in SETTINGS_PAGE.splitlines()
        if line.startswith("| `")
    }
    assert [name.upper() for name in Settings.model_fields if name.upper() not in rows] == []
    defaults = dict(line.split("=", 1) for line in sample().splitlines() if line and not line.startswith("#"))
    wrong = [name for name, default in defaults.items() if rows[name].replace("–", "") != default]
    assert wrong == []


def test_every_route_is_documented(tmp_path: Path) -> None:
    found = summaries(tmp_path)
    assert len(found) >= 10
    assert [route for route in found if f"`{route}`" not in ENDPOINTS_PAGE] == []


def test_the_documents_say_how_every_endpoint_is_answered() -> None:
    lines = ENDPOINTS_PAGE.splitlines()
    for each in ENDPOINTS.values():
        assert f"| `GET {each.path}` | {each.summary} | {each.mode.value} | {each.holds_text} |" in lines
    [refused] = [
        text
        for _, name, text in re.findall(r"(<!-- generated: (\w+) -->)(.*?)<!--", ENDPOINTS_PAGE, re.DOTALL)
        if name == "refused"
    ]
    named = re.findall(r"`([A-Z]+) (/[^`]*)`", refused)
    assert named == [(method, path) for path, methods in REFUSED.items() for method in methods]


def test_every_documented_route_exists(tmp_path: Path) -> None:
    others = {"GET /", "GET /docs", "GET /openapi.json", "POST /sandbox/faults"}  # pages, and a route of the sandbox
    named = {route for path in PAGES for route in re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`]*)`", path.read_text())}
    assert named - others <= set(summaries(tmp_path))


def test_every_command_is_documented() -> None:
    named = set(
        re.findall(
            r"klinenode (serve|collect|demo-collector|demo|sandbox|backfill|gaps|verify|unseal|migrate-store|key new|"
            r"replay|check-export|export|doctor|status|completion|config)\b",
            OPERATIONS_PAGE,
        )
    )
    assert set(commands()) == named


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_a_document_shows_exists(path: Path) -> None:
    """For make: the target and its variables; for klinenode: the command and its options."""
    makefile = (ROOT / "Makefile").read_text()
    for line in lines_of_shell(path):
        words = shlex.split(line, comments=True)
        if "make" in words:
            named = [word for word in words[words.index("make") + 1 :] if not word.startswith(("-", "/"))]
            targets = [word for word in named if "=" not in word]
            variables = [word.partition("=")[0] for word in named if "=" in word]
            assert set(targets) <= set(MAKE), line
            assert [name for name in variables if name not in makefile] == [], line
        elif words and words[0].endswith("bin/klinenode"):
            command = commands().get(words[1]) or commands()[" ".join(words[1:3])]
            options = {name for option in command.params for name in option.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text()):
        if "://" in target:
            continue
        there = path.parent / target if target else path
        assert there.exists(), f"{target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page_and_its_first_candle_one_screen() -> None:
    lines = README.splitlines()
    assert len(lines) <= README_LINES_MAX
    assert max(len(line) for line in lines if line.startswith("|")) <= ROW_CHARS_MAX
    text = "\n".join(lines[:24])
    assert "make run" in text
    assert "make demo" in text
    assert "curl 'http://127.0.0.1:8000/fapi/v1/klines?" in text


def test_the_chinese_readme_is_the_english_one() -> None:
    """Both have the same sections, links and commands; only comments inside the commands may be Chinese."""
    for pattern in (r"^(#+) ", r"^(\|)", r"^(- )"):
        found = re.findall(pattern, CHINESE, re.MULTILINE)
        assert found == re.findall(pattern, README, re.MULTILINE), f"other lines that begin with {pattern}"
    ours, theirs = LINK.findall(README), LINK.findall(CHINESE)
    assert theirs == [("README.md", "") if link == ("README.zh-CN.md", "") else link for link in ours]
    assert re.findall(r"<(http[^>]*)>", CHINESE) == re.findall(r"<(http[^>]*)>", README)
    assert [without_comments(block) for block in blocks(CHINESE)] == [
        without_comments(block) for block in blocks(README)
    ]


def without_comments(block: str) -> list[str]:
    return [line.partition(" # ")[0].rstrip() for line in block.splitlines()]


def test_the_chinese_readme_names_what_the_english_one_names() -> None:
    """Both have the same words in backquotes: settings, routes, statuses."""
    named = [
        sorted(set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))))
        for text in (README, CHINESE)
    ]
    assert named[0] == named[1]


def test_the_architecture_is_one_page_and_names_every_package() -> None:
    assert len(ARCHITECTURE.splitlines()) <= ARCHITECTURE_LINES_MAX
    packages = [
        path.parent.relative_to(ROOT).as_posix()
        for top in ("app", "infra")
        for path in (ROOT / top).glob("*/__init__.py")
    ]
    assert [name for name in packages if f"`{name}`" not in ARCHITECTURE and f"{name}/" not in ARCHITECTURE] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    named = re.findall(r"`((?:app|infra|tests|deploy|migrations)/[\w./-]+)`", path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_name_that_the_architecture_gives_beside_a_file_is_in_it() -> None:
    """For example `app/holding/commit.py` (`Committer._tell`): that file must define it."""
    found = re.findall(r"`((?:app|infra)/[\w./]+\.py)` \(`([\w.]+)`\)", ARCHITECTURE)
    assert len(found) >= 8
    for name, symbol in found:
        text = (ROOT / name).read_text()
        for part in symbol.split("."):
            assert re.search(rf"\b(?:def|class) {part}\b|^{part}\b", text, re.MULTILINE), f"{name} has no {symbol}"


def test_every_decision_has_a_date_and_what_lost() -> None:
    text = (DOCS / "decisions.md").read_text()
    for decision in text.split("\n### ")[1:]:
        title, _, body = decision.partition("\n")
        assert re.match(r"20\d\d-\d\d-\d\d\. Instead of ", body), title


def test_the_sample_file_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.sample").read_text() == sample(), "run `make env-sample`"


def test_the_sample_file_means_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    assert load(env_file=ROOT / ".env.sample") == load(env_file=None)


def test_every_reason_of_a_503_is_documented() -> None:
    for reason in Reason:
        assert f"| `{reason}` | {reason.meaning[0].upper()}{reason.meaning[1:]}. |" in ENDPOINTS_PAGE.splitlines()


def test_no_503_is_made_without_its_reason() -> None:
    """Only the functions that require a reason contain the number 503."""
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
