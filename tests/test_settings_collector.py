"""The settings of the collector: their checks, and the file that stands beside the environment."""

from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load

NATS = "nats://127.0.0.1:4222"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)


def faults_of(**values: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(values, env_file=None)
    return str(caught.value)


def test_without_exchanges_there_is_no_collector_and_nothing_of_it_is_required() -> None:
    assert load(env_file=None).exchanges == ()
    assert load({"nats_url": ""}, env_file=None).nats_url == ""


def test_exchanges_need_a_stream() -> None:
    assert "\n  NATS_URL: set it as well as EXCHANGES" in faults_of(exchanges="okx")
    assert load({"exchanges": "deribit, OKX", "nats_url": NATS}, env_file=None).exchanges == ("okx", "deribit")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("exchanges", "okx,kraken", "there are binance,okx,deribit"),
        ("nats_url", "http://user:geheim@host:4222", "nats://user:password@host:4222"),
        ("nats_url", "nats://user:geheim@host:port", "nats://"),
        ("nats_url", "nats://user:geheim@host:4222/x", "nats://"),
        ("nats_url", "nats://user:ge heim@host", "percent-encoded"),
        ("nats_url", "nats://user:********@host", "masked"),
        ("nats_url", "nats://one:4222,two:4222", "separated by commas"),
        ("nats_url", "nats://one:4222,", "separated by commas"),
        ("nats_url", ",".join(f"nats://n{number}:4222" for number in range(17)), "16 servers at most"),
        ("okx_rest_url", "wss://www.okx.com", "https://www.okx.com"),
        ("okx_ws_url", "wss://ws.okx.com:8443/ws/v5/public", "scheme, host and port only"),
        ("deribit_rest_url", "https://", "scheme, host and port only"),
        ("deribit_ws_url", "https://www.deribit.com", "wss://"),
        ("collect_symbols", "BTC-USDT,ETH USDT", "write it as BTC-USDT"),
        ("collect_symbols", "kraken:BTC-USDT", "before the colon stands one of the exchanges"),
        ("collect_types", "trade,depth", "'depth' is no type of data"),
        ("collect_types", "kline", "write kline.1m"),
        ("collect_types", "kline.7m", "'7m' is no interval of klines"),
        ("collect_types", "trade.1m", "trade has no interval"),
        ("collect_markets", "swap,margin", "there are spot, swap, future"),
        ("collect_dir", " ", "name a folder"),
        ("collect_dir", "~/collect", "a shell replaces"),
        ("spill_bytes_max", "1", "greater than or equal to 16777216"),
        ("nats_duplicate_window_sec", "90000", "NATS_MAX_AGE_HOURS"),
        ("trade_batch_max", "0", "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(name: str, value: str, says: str) -> None:
    text = faults_of(**{name: value})
    assert name.upper() in text
    assert says in text
    assert "geheim" not in text


def test_symbols_and_types_bear_blanks_and_lower_case() -> None:
    chosen = load({"collect_symbols": " btc-usdt ,Deribit:eth-usd,BTC-USDT", "collect_types": "trade,kline.1M"}, None)
    assert chosen.collect_symbols == ("BTC-USDT", "deribit:ETH-USD")
    assert chosen.collect_types == ("trade", "kline.1M")


def test_the_address_of_the_stream_is_shown_without_its_password() -> None:
    chosen = load({"nats_url": "NATS://me:geheim@nats.example:4222/", "exchanges": "okx"}, env_file=None)
    assert chosen.nats_url == "nats://me:geheim@nats.example:4222"
    assert chosen.effective()["NATS_URL"] == "nats://********@nats.example:4222"
    assert "geheim" not in repr(chosen)
    cluster = load({"nats_url": "nats://me:geheim@one, tls://me:geheim@two:4222/", "exchanges": "okx"}, env_file=None)
    assert cluster.nats_url == "nats://me:geheim@one,tls://me:geheim@two:4222"
    assert cluster.effective()["NATS_URL"] == "nats://********@one,tls://********@two:4222"


def test_only_the_addresses_of_exchanges_that_are_followed_need_a_way() -> None:
    bad = {"https_proxy": "socks4://proxy:1", "no_proxy": "binance.com,fapi.binance.com,fstream.binance.com"}
    bad |= {"no_proxy": f"{bad['no_proxy']},data.binance.vision"}
    assert load(bad, env_file=None)
    assert "HTTPS_PROXY" in faults_of(**bad, exchanges="okx", nats_url=NATS)


def written(folder: Path, text: str, name: str = "services.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_the_file_speaks_where_the_environment_is_silent(tmp_path: Path) -> None:
    text = f"""
market-data-collector:
  nats_url: "{NATS}"
  port: 8081
  trade_batch_max: 10
  exchanges:
    deribit: {{BTC-USD: [trade]}}
"""
    chosen = load({"collect_config": written(tmp_path, text), "trade_batch_max": 20}, env_file=None)
    assert (chosen.nats_url, chosen.port, chosen.trade_batch_max) == (NATS, 8081, 20)
    assert chosen.exchanges == ("deribit",)


def test_the_sample_file_of_settings_silences_nothing(tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / ".env.sample"
    path = written(tmp_path, f"nats_url: {NATS}\nexchanges: {{okx: {{BTC-USDT: [trade]}}}}")
    chosen = load({"collect_config": path}, env_file=sample)
    assert (chosen.nats_url, chosen.exchanges) == (NATS, ("okx",))


def test_faults_of_the_file_are_faults_of_the_settings(tmp_path: Path) -> None:
    path = written(tmp_path, "exchanges:\n  okx:\n    BTC-USDT: [depth]\nport: many\n")
    text = faults_of(collect_config=path)
    assert "COLLECT_CONFIG: " in text
    assert "services.yaml: line 3: 'depth' is no type of data" in text
    assert "COLLECT_CONFIG" in faults_of(collect_config=str(tmp_path / "none.yaml"))
    path = written(tmp_path, "port: many\nnats_duplicate_window_sec: 5")
    text = faults_of(collect_config=path)
    assert "\n  PORT: " in text
    assert "\n  NATS_DUPLICATE_WINDOW_SEC: " in text


def test_an_exchange_of_the_file_that_the_settings_leave_out_is_a_fault(tmp_path: Path) -> None:
    path = written(tmp_path, "exchanges: {okx: {BTC-USDT: [trade]}}")
    assert "the file has okx, and EXCHANGES has not" in faults_of(
        collect_config=path, exchanges="binance", nats_url=NATS
    )
