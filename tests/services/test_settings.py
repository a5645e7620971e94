"""Settings: one table that feeds the program, its sample file and its errors."""

from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from app.settings import SECRETS, Settings, SettingsError, load, sample

SAMPLE = Path(__file__).parents[2] / ".env.sample"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)


def faults_of(**values: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(values, env_file=None)
    return str(caught.value)


def test_every_setting_has_a_default_and_one_line_of_help() -> None:
    for name, field in Settings.model_fields.items():
        assert field.default is not PydanticUndefined, name
        assert field.description, name
        assert "\n" not in field.description, name


def test_the_committed_sample_is_the_generated_one() -> None:
    assert SAMPLE.read_text(encoding="utf-8") == sample(), "run `make env-sample`"


def test_the_sample_says_exactly_the_defaults() -> None:
    """The first system could not start from its own sample (lesson 1)."""
    assert load(env_file=SAMPLE).effective() == load(env_file=None).effective()
    assert load(env_file=SAMPLE) == load(env_file=None)


@pytest.mark.parametrize(
    "text", ["BTCUSDT,ethusdt", '["BTCUSDT","ethusdt"]', " BTCUSDT , ETHUSDT ,", '[ "btcusdt", "ETHUSDT", "BTCUSDT" ]']
)
def test_lists_may_be_csv_or_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SYMBOLS", text)
    assert load(env_file=None).symbols == ("BTCUSDT", "ETHUSDT")


def test_intervals_are_sorted_and_case_matters() -> None:
    chosen = load({"intervals": "1M,1h,1m,1h"}, env_file=None)
    assert chosen.intervals == ("1m", "1h", "1M")
    assert [interval.slug for interval in chosen.interval_list] == ["1m", "1h", "1mo"]
    assert "1H" in faults_of(intervals="1m,1H")


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=8001\nHOST=0.0.0.0\nUNKNOWN=1\n", encoding="utf-8")
    monkeypatch.setenv("PORT", "8002")
    chosen = load(env_file=file)
    assert (chosen.port, chosen.host) == (8002, "0.0.0.0")


def test_all_faults_are_told_at_once_by_their_names() -> None:
    text = faults_of(port="many", intervals="2m", backfill_days=0, binance_rest_url="fapi.binance.com", symbols="[1")
    for name in ("PORT", "INTERVALS", "BACKFILL_DAYS", "BINANCE_REST_URL", "SYMBOLS"):
        assert f"\n  {name}: " in text


def test_a_file_that_is_no_text_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"PORT=\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(env_file=file)


def test_nothing_to_follow_is_a_fault() -> None:
    assert "SYMBOLS" in faults_of(symbols="", auto_sync_symbols=False)
    assert load({"symbols": ""}, env_file=None).symbols == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("binance_rest_url", "wss://fapi.binance.com"),
        ("binance_rest_url", "https://fapi.binance.com/fapi/v1"),
        ("binance_rest_url", "https://fapi.binance.com?x=1"),
        ("binance_rest_url", "https://fapi.binance.com:99999"),
        ("binance_rest_url", "https://[::1"),
        ("binance_rest_url", "https://"),
        ("binance_ws_url", "https://fstream.binance.com"),
        ("binance_archive_url", "ftp://data.binance.vision"),
        ("http_proxy", "proxy.example:3128"),
        ("https_proxy", "http://user:geheim@proxy.example:port"),
        ("db_url", "sqlite:///"),
        ("db_url", "mysql://localhost/x"),
        ("log_level", "LOUD"),
        ("workers", "0"),
    ],
)
def test_addresses_and_limits_are_checked_before_anything_starts(name: str, value: str) -> None:
    text = faults_of(**{name: value})
    assert name.upper() in text
    assert "geheim" not in text


def test_a_trailing_slash_is_no_fault() -> None:
    assert (
        load({"binance_rest_url": "http://127.0.0.1:8900/"}, env_file=None).binance_rest_url == "http://127.0.0.1:8900"
    )


def test_secrets_are_never_shown() -> None:
    """Secrets were logged at start (lesson 17)."""
    chosen = load(
        {
            "admin_token": "geheim1",
            "http_proxy": "http://user:geheim2@proxy:3128",
            "https_proxy": "http://geheim3@proxy:3128",
        },
        env_file=None,
    )
    shown = chosen.effective()
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    for text in (str(shown), str(chosen.admin_token), repr(chosen.admin_token)):
        assert "geheim" not in text
    assert shown["HTTP_PROXY"] == "http://********@proxy:3128"
    assert shown["ADMIN_TOKEN"] == "********"
    assert {name.lower() for name in SECRETS} <= set(Settings.model_fields)


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_token_or_proxy_is_none(value: str) -> None:
    chosen = load({"admin_token": value, "http_proxy": value}, env_file=None)
    assert (chosen.admin_token, chosen.http_proxy) == (None, None)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://fapi.binance.com", "http://secure:1"),
        ("wss://fstream.binance.com", "http://secure:1"),
        ("http://fapi.example", "http://plain:1"),
        ("http://127.0.0.1:8900", None),
        ("ws://localhost:8900", None),
        ("https://[::1]:8900", None),
        ("http://127.0.1.1:8900", None),
        ("http://LOCALHOST:8900", None),
    ],
)
def test_loopback_is_never_asked_through_a_proxy(url: str, proxy: str | None) -> None:
    chosen = load({"http_proxy": "http://plain:1", "https_proxy": "http://secure:1"}, env_file=None)
    assert chosen.proxy_for(url) == proxy


def test_price_klines_are_wished_by_family_and_symbol() -> None:
    chosen = load({"price_klines": "premium,mark,index", "price_klines_symbols": "btcusdt,ETHUSDT"}, env_file=None)
    assert chosen.price_klines == ("mark", "index", "premium")
    assert chosen.price_series[:2] == ("BTCUSDT@markPrice", "BTCUSDT@indexPrice")
    assert load(env_file=None).price_series == ()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"price_klines": "mark"}, "PRICE_KLINES and PRICE_KLINES_SYMBOLS together"),
        ({"price_klines_symbols": "BTCUSDT"}, "PRICE_KLINES and PRICE_KLINES_SYMBOLS together"),
        ({"price_klines": "last", "price_klines_symbols": "BTCUSDT"}, "there are mark,index,premium"),
        ({"price_klines": "mark", "price_klines_symbols": "BTCUSDT@markPrice"}, "are no symbols"),
        (
            {"price_klines": "mark,index,premium", "price_klines_symbols": [f"S{n}USDT" for n in range(200)]},
            "more than a quarter of WEIGHT_PER_MINUTE",
        ),
    ],
)
def test_price_klines_that_cannot_be_held_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(wrong, env_file=None)


def test_what_looks_like_a_symbol_or_a_level_is_not_taken_for_it() -> None:
    assert load({"symbols": "btcuſdt,币安人生usdt"}, env_file=None).symbols == ("BTCUſDT", "币安人生USDT")
    assert "LOG_LEVEL" in faults_of(log_level="ınfo")
