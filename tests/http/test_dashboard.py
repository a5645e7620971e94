"""The dashboard's files: sent with headers that keep everything foreign out, again only when they changed."""

import gzip
import shutil
from pathlib import Path

import httpx
import pytest

from app.access.key_gate import KeyGate
from app.http.dashboard import FILE_BYTES_MAX, Dashboard
from tests.http.fakes import ManualClock, Node

SCRIPT = b"export const answer = 42;\n" * 100


class NoQuota:
    """Counts nothing: no request of these tests has a key."""

    def used(self, row: int, period: int) -> int:
        return 0

    def add(self, row: int, period: int) -> None:
        raise AssertionError("nobody is admitted")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a build leaves: an index, a script and its compressed form, and a secret beside it."""
    assets = tmp_path / "dist" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "index.html").write_text('<!doctype html><script src="./assets/index-4f.js"></script>')
    (assets / "index-4f.js").write_bytes(SCRIPT)
    (assets / "index-4f.js.gz").write_bytes(gzip.compress(SCRIPT, mtime=0))
    (assets / "notes.txt").write_text("not for everyone")
    (tmp_path / "secret.js").write_text("secret")
    return assets.parent


def of(folder: Path) -> Node:
    return Node(dashboard=Dashboard(folder))


async def test_the_page_is_asked_for_again_and_its_files_never(folder: Path) -> None:
    async with of(folder).client() as client:
        page, script = await client.get("/"), await client.get("/assets/index-4f.js")
        assert page.headers["cache-control"] == "no-cache"
        assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (script.content, script.headers["content-encoding"]) == (SCRIPT, "gzip")
        assert "javascript" in script.headers["content-type"]
        for path, answer in (("/", page), ("/assets/index-4f.js", script)):
            again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["etag"] == answer.headers["etag"]
        plain = await client.get("/assets/index-4f.js", headers={"accept-encoding": "identity"})
        assert plain.content == SCRIPT
        assert plain.headers["etag"] != script.headers["etag"], "an ETag names one encoding"


async def test_the_policy_lets_nothing_run_that_is_not_a_file_of_the_node(folder: Path) -> None:
    async with of(folder).client() as client:
        for answer in (await client.get("/"), await client.get("/assets/index-4f.js")):
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    ["/assets/../../secret.js", "/assets/%2e%2e%2f%2e%2e%2fsecret.js", "/assets/..%5csecret.js", "/assets/",
     "/assets/notes.txt", "/assets/index-4f.js.gz", "/assets/index-5a.js", "/assets//etc/passwd", "/index.html"],
)  # fmt: skip
async def test_nothing_but_the_files_of_the_build_is_served(folder: Path, path: str) -> None:
    async with of(folder).client() as client:
        answer = await client.get(path)
    assert (answer.status_code, set(answer.json())) == (404, {"error"})


async def test_without_a_build_the_front_page_says_how_to_get_one_and_finds_it_when_it_is_there(folder: Path) -> None:
    hidden = shutil.move(folder, folder.with_name("later"))
    async with of(folder).client() as client:
        before = await client.get("/")
        assert (before.status_code, "make web" in before.text) == (200, True)
        assert (await client.get("/assets/index-4f.js")).status_code == 404
        shutil.move(hidden, folder)
        assert "assets/index-4f.js" in (await client.get("/")).text


async def test_a_build_with_a_file_of_any_size_is_none(folder: Path) -> None:
    (folder / "assets" / "huge.js").write_bytes(b" " * (FILE_BYTES_MAX + 1))
    async with of(folder).client() as client:
        assert "make web" in (await client.get("/")).text


async def test_a_node_with_keys_shows_the_page_to_everyone_and_its_data_to_nobody(folder: Path) -> None:
    node = Node(dashboard=Dashboard(folder), gate=KeyGate(ManualClock(), NoQuota()))
    async with node.client() as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/assets/index-4f.js")).status_code == 200
        refused: httpx.Response = await client.get("/v1/coverage")
        assert (refused.status_code, "X-MBX-APIKEY" in refused.json()["error"]) == (401, True)
