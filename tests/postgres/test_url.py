"""Which database a URL names, and that messages never have its password."""

import pytest

from infra.postgres.url import place


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:secret@db.example:6000/klinenode", "klinenode at db.example:6000"),
        ("postgres://db.example/klinenode?sslmode=require", "klinenode at db.example:5432"),
        ("postgresql://me@/klinenode?host=/run/postgresql&port=5433", "klinenode at /run/postgresql:5433"),
        ("postgresql://me:secret%2Fsecret@[::1]/k%20n", "k n at ::1:5432"),
        ("postgresql://", "of the user at localhost:5432"),
    ],
)
def test_a_database_is_named_without_its_user(url: str, name: str) -> None:
    assert place(url) == name


@pytest.mark.parametrize("url", ["postgresql://me:sec/ret@db/klinenode", "sec://x"])
def test_what_is_no_url_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="DB_URL") as caught:
        place(url)
    assert "sec" not in f"{caught.value!r} {caught.value.__cause__}"
