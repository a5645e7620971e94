"""The file of COLLECT_CONFIG: every fault with its line, and nothing guessed."""

import json
import re
from pathlib import Path

import pytest

from app.domain.choice import Choice, FeedType
from app.domain.instrument import Market
from app.domain.records import DataType
from app.services_file import FAULTS_MAX, FILE_BYTES_MAX, ServicesFileError, parse, read

NAMES = ("nats_url", "port")
TRADE, BOOK = FeedType(DataType.TRADE), FeedType(DataType.ORDERBOOK)
MINUTES = FeedType(DataType.KLINE, "1m")


def fault_of(text: str | bytes, *, is_json: bool = False) -> str:
    with pytest.raises(ServicesFileError) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), NAMES, is_json=is_json)
    return str(caught.value)


def test_symbols_have_types_and_may_have_markets() -> None:
    text = """
nats_url: nats://127.0.0.1:4222   # the stream
port: 0123
exchanges:
  okx:
    btc-usdt: [trade, orderbook, kline.1m, trade]
    ETH-USDT: {market: spot, data_types: [trade]}
    SOL-USDT:
      - {market: spot, data_types: [trade]}
      - market: swap
        data_types:
          - orderbook
    1INCH-USDT: []
  deribit:
"""
    found = parse(text.encode(), NAMES)
    assert found.settings == {"nats_url": "nats://127.0.0.1:4222", "port": "0123"}
    assert found.choices == {
        "okx": (
            Choice("BTC-USDT", None, (TRADE, BOOK, MINUTES), is_own=True),
            Choice("ETH-USDT", Market.SPOT, (TRADE,), is_own=True),
            Choice("SOL-USDT", Market.SPOT, (TRADE,), is_own=True),
            Choice("SOL-USDT", Market.SWAP, (BOOK,), is_own=True),
            Choice("1INCH-USDT", None, (), is_own=True),
        ),
        "deribit": (),
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "exchanges:\n", "market-data-collector:\n", "~"])
def test_a_file_may_say_nothing(text: str) -> None:
    assert parse(text.encode(), NAMES) == ({}, {})


def test_json_is_read_alike_with_tabs_too() -> None:
    content = {"exchanges": {"okx": {"BTC-USDT": {"data_types": ["trade"]}}}}
    found = parse(json.dumps(content, indent="\t").encode(), NAMES, is_json=True)
    assert found.choices == {"okx": (Choice("BTC-USDT", None, (TRADE,), is_own=True),)}


def test_all_faults_are_named_with_their_lines() -> None:
    text = """
nats: x
exchanges:
  kraken: {}
  okx:
    BTC USDT: [trade]
    ETH-USDT: [depth, kline.7m]
    SOL-USDT: trade
    XRP-USDT: {market: margin, types: [trade], data_types: [trade]}
    ADA-USDT: [trade]
    ADA-USDT: [trade]
port: [1]
"""
    said = fault_of(text)
    for line, part in [
        (2, "'nats' is no key here; there are exchanges, nats_url, port"),
        (4, "'kraken' is no exchange; there are binance, okx, deribit"),
        (6, "'BTC USDT' is no symbol"),
        (7, "'depth' is no type of data"),
        (7, "'7m' is no interval"),
        (8, "SOL-USDT needs a list of types, for example [trade, orderbook]"),
        (9, "'margin' is no market"),
        (9, "'types' is no key of a symbol; there are market, data_types"),
        (11, "'ADA-USDT' stands here twice"),
        (12, "port must be a plain value"),
    ]:
        assert f"line {line}: {part}" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exchanges: [okx]", "line 1: exchanges must have the form"),
        ("- okx", "line 1: the file must have the form"),
        ("exchanges:\n\t okx: {}", "line 2: this is neither YAML nor JSON"),
        ("exchanges: {okx: {BTC-USDT: [trade}}", "line 1: this is neither YAML nor JSON"),
        ("a: 1\n---\nb: 2", "line 2: this is neither YAML nor JSON"),
        ("a: *b", "undefined alias"),
        ("{[a]: 1}", "a name must be a plain value"),
        ("exchanges: {okx: {BTC-USDT: [[trade]]}}", "a type must be a plain value"),
        ("market-data-collector: &a\n  market-data-collector: *a", "line 2: 'market-data-collector' is no key here"),
        (b"\xff\xfe", "not UTF-8"),
        ("a: \x00", "neither YAML nor JSON"),
        ("[" * 1_000, "neither YAML nor JSON"),
        (" " * (FILE_BYTES_MAX + 1), "larger than"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str | bytes, says: str) -> None:
    assert says in fault_of(text)


def test_a_message_names_so_many_faults_and_counts_the_others() -> None:
    said = fault_of("".join(f"name{n}: 1\n" for n in range(FAULTS_MAX + 7)))
    assert said.count("is no key here") == FAULTS_MAX
    assert said.endswith("; and 7 more faults")


def test_the_documented_example_is_one() -> None:
    text = (Path(__file__).parents[1] / "docs/collector.md").read_text()
    [example] = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    found = parse(example.encode(), NAMES)
    assert found.settings == {"nats_url": "nats://127.0.0.1:4222", "port": "8081"}
    assert [len(each) for each in found.choices.values()] == [4, 1]


def test_a_fault_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "services.yaml"
    with pytest.raises(ServicesFileError, match=r"services\.yaml cannot be read: No such file"):
        read(path, NAMES)
    path.write_text("nats: 1")
    with pytest.raises(ServicesFileError, match=r"services\.yaml: line 1: 'nats'"):
        read(path, NAMES)
