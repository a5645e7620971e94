"""What requests have changed is kept relative to the settings, and survives restarts."""

import random

import pytest

from app.collecting.wish import Changes, Item, Wish, WishFileError
from app.domain.choice import FeedType
from app.domain.instrument import Market
from app.domain.records import DataType

A, B, C, D = (Item(Market.SWAP, name, FeedType(DataType.TRADE)) for name in ("A-USDT", "B-USDT", "C-USDT", "D-USDT"))
KLINE = Item(Market.SPOT, "BTC-USDT", FeedType(DataType.KLINE, "1M"))


def only(*items: Item) -> frozenset[Item]:
    return frozenset(items)


def test_without_requests_the_settings_are_followed() -> None:
    assert Wish().items("okx", only(A, B)) == {A, B}


def test_requests_add_and_remove_for_one_exchange() -> None:
    wish = Wish().following("okx", only(C), only(A, B)).leaving("okx", only(A), only(A, B))
    assert wish.items("okx", only(A, B)) == {B, C}
    assert wish.items("deribit", only(A, B)) == {A, B}
    assert wish.changes("okx") == Changes(only(C), only(A))


def test_a_request_that_says_what_the_settings_say_leaves_no_record() -> None:
    wish = Wish().following("okx", only(A, C), only(A))
    assert wish.changes("okx") == Changes(only(C))
    assert wish.leaving("okx", only(C), only(A)) == Wish()
    assert Wish().leaving("okx", only(A), only(A)).following("okx", only(A), only(A)) == Wish()


def test_settings_that_change_later_have_effect_on_what_nobody_asked_about() -> None:
    wish = Wish().following("okx", only(C), only(A, B)).leaving("okx", only(A), only(A, B))
    assert wish.items("okx", only(A, D)) == {C, D}, "B went with the settings, A stays removed, D is new"
    assert wish.items("okx", only(C)) == {C}
    assert wish.leaving("okx", only(C), only(C)).items("okx", only(C)) == set(), (
        "added, then in the settings, then left"
    )


def test_a_request_always_has_its_effect_whatever_was_before() -> None:
    chance = random.Random(5)
    wish = Wish()
    for _ in range(2_000):
        items, configured = (frozenset(chance.sample((A, B, C, D), chance.randrange(5))) for _ in range(2))
        before = wish.items("okx", configured)
        if chance.random() < 0.5:
            wish = wish.following("okx", items, configured)
            assert wish.items("okx", configured) == before | items
        else:
            wish = wish.leaving("okx", items, configured)
            assert wish.items("okx", configured) == before - items
        assert Wish.decoded(wish.encoded()) == wish


def test_the_file_is_read_as_it_was_written() -> None:
    wish = Wish({"okx": Changes(only(A, KLINE), only(B)), "deribit": Changes(only(C))})
    assert Wish.decoded(wish.encoded()) == wish
    assert b'"spot/BTC-USDT/kline.1M"' in wish.encoded()
    assert Wish.decoded(Wish().encoded()) == Wish()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"version":1,"exchanges":{"okx":{"added":["swap/BTC-USDT"],"removed":[]}}}',
        b'{"version":1,"exchanges":{"okx":{"added":["swap/BTC-USDT/depth"],"removed":[]}}}',
        b'{"version":1,"exchanges":{"okx":{"added":["margin/BTC-USDT/trade"],"removed":[]}}}',
        b'{"version":1,"exchanges":{"okx":{"added":["swap/BTC USDT/trade"],"removed":[]}}}',
        b'{"version":1,"exchanges":{"okx":{"added":[]}}}',
        b'{"version":1,"exchanges":{},"more":1}',
        b'{"version":2,"exchanges":{}}',
        b"[" * 10_000,
    ],
)
def test_a_file_that_was_not_written_by_us_is_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(WishFileError, match="move the file away"):
        Wish.decoded(content)
