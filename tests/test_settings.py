"""Settings: one table that feeds the program, its sample file and its errors."""

import os
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from app.outbound import proxy_of
from app.settings import SECRETS, Settings, SettingsError, load, sample

SAMPLE = Path(__file__).parents[1] / ".env.sample"


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
    """The first system could not start from its own sample file."""
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
        ("https_proxy", "http://user:geheim@proxy.example:port"),
        ("all_proxy", "socks4://user:geheim@proxy.example:1080"),
        ("db_url", "sqlite:///"),
        ("db_url", "mysql://localhost/x"),
        ("db_url", "postgresql+asyncpg://user:geheim@db/klinenode"),
        ("db_url", "postgresql:user:geheim@db/klinenode"),
        ("db_url", "postgresql://user:geheim@db"),
        ("db_url", "postgresql://user:geheim@db/"),
        ("db_url", "postgresql://user:geheim@db/one/two"),
        ("db_url", "postgresql://user:geheim@db:port/klinenode"),
        ("db_url", "postgresql://user:geheim@db:0/klinenode"),
        ("db_url", "postgresql://user:ge#heim@db/klinenode"),
        ("db_url", "postgresql://user:geheim@db/klinenode # the database"),
        ("db_url", "postgresql://user:geheim@[::1/klinenode"),
        ("db_url", "postgresql://db/klinenode?password=geheim"),
        ("db_url", "postgresql://user:geheim@db/klinenode?prepared_statements"),
        ("db_url", "postgresql:///klinenode"),
        ("cache_url", "redis"),
        ("cache_url", "http://user:geheim@cache:6379"),
        ("cache_url", "redis://user:ge#heim@cache:6379"),
        ("cache_url", "redis://user:geheim@cache:0"),
        ("cache_url", "redis://user:geheim@cache/database"),
        ("cache_url", "redis://user:geheim@cache?socket_timeout=9"),
        ("cache_url", "redis://user:geheim@"),
        ("cache_url", "redis://user:********@cache"),
        ("db_url", "postgresql://user:********@db/klinenode"),
        ("db_read_url", "postgresql://user:geheim@db/klinenode"),  # DB_URL names a file
        ("db_read_url", "sqlite:///k.db"),
        ("timescale", "true"),  # DB_URL names a file
        ("timescale", "perhaps"),
        ("log_level", "LOUD"),
        ("data_bucket", "path"),
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
    """The first system logged its secrets at start."""
    chosen = load(
        {
            "admin_token": "geheim1",
            "http_proxy": "http://user:geheim2@proxy:3128",
            "https_proxy": "http://geheim3@proxy:3128",
            "db_url": "postgresql://klinenode:geheim4@db:5432/klinenode",
            "db_read_url": "postgresql://klinenode:geheim5@replica/klinenode",
            "cache_url": "REDIS://:geheim5@cache:6379/1",
        },
        env_file=None,
    )
    shown = chosen.effective()
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    for text in (str(shown), str(chosen.admin_token), repr(chosen.admin_token)):
        assert "geheim" not in text
    assert "geheim4" not in repr(chosen)
    assert "geheim5" not in repr(chosen)
    assert shown["DB_URL"] == "postgresql://********@db:5432/klinenode"
    assert shown["CACHE_URL"] == "redis://********@cache:6379/1"
    assert shown["HTTP_PROXY"] == "http://********@proxy:3128"
    assert shown["ADMIN_TOKEN"] == "********"
    assert {name.lower() for name in SECRETS} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/klinenode",
        "postgres://klinenode:p%40ss@[::1]:5432/klinenode?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql:///klinenode?host=/run/postgresql",
        "sqlite:////srv/a@b.db",
    ],
)
def test_a_database_is_a_file_or_one_of_a_server(url: str) -> None:
    assert load({"db_url": url}, env_file=None).db_url == url


def test_schemes_are_names_in_either_case() -> None:
    for scheme in ("SQLite:///k.db", "PostgreSQL://db/klinenode"):
        found = load({"db_url": scheme}, env_file=None).db_url
        assert found.partition(":")[0] == scheme.partition(":")[0].lower()


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
    assert chosen.egress_to(url).proxy == (proxy and proxy_of(proxy))


def test_price_klines_are_wished_by_family_and_symbol() -> None:
    chosen = load({"price_klines": "premium,mark,index", "price_klines_symbols": "btcusdt,ETHUSDT"}, env_file=None)
    assert (chosen.price_klines, chosen.price_klines_symbols) == (("mark", "index", "premium"), ("BTCUSDT", "ETHUSDT"))
    assert load(env_file=None).price_klines == ()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"price_klines": "mark"}, "PRICE_KLINES and PRICE_KLINES_SYMBOLS together"),
        ({"price_klines_symbols": "BTCUSDT"}, "PRICE_KLINES and PRICE_KLINES_SYMBOLS together"),
        ({"price_klines": "last", "price_klines_symbols": "BTCUSDT"}, "there are mark,index,premium"),
        ({"price_klines": "mark", "price_klines_symbols": "BTCUSDT@markPrice"}, "not a name as exchangeInfo"),
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


@pytest.mark.parametrize("name", ["symbols", "quote_assets", "price_klines_symbols"])
@pytest.mark.parametrize(
    "text",
    [
        "BTCUSDT,ETHUSDT # main",
        "BTCUSDT;ETHUSDT",
        "BTCUSDT ETHUSDT",
        "null",
        "None",
        "[null]",
        "[1]",
        "[BTCUSDT]",
        '[["BTCUSDT"]]',
        '["BTCUSDT"',
        "[" * 100_000,
        '{"BTCUSDT":1}',
        "'BTCUSDT','ETHUSDT'",
        '"BTCUSDT,ETHUSDT"',
        "BTCUSDT\nETHUSDT",
        "#BTCUSDT",
        "S" * 65,
    ],
)
def test_what_is_no_list_of_names_is_refused_by_its_variable(name: str, text: str) -> None:
    said = faults_of(**{name: text, "price_klines": "mark"})
    assert f"\n  {name.upper()}: " in said
    assert len(said) < 1_000, "a long value is not repeated whole"


@pytest.mark.parametrize("text", ["1m # main", "1m;5m", "[null]", "", ",", "1H", "1m 5m"])
def test_intervals_are_checked_like_any_list(text: str) -> None:
    assert "\n  INTERVALS: " in faults_of(intervals=text)


def test_a_list_bears_blanks_empty_entries_lower_case_and_repetition() -> None:
    chosen = load({"symbols": " btcusdt ,, ETHUSDT,BTCUSDT,", "quote_assets": '["usdt",""]'}, env_file=None)
    assert (chosen.symbols, chosen.quote_assets) == (("BTCUSDT", "ETHUSDT"), ("USDT",))
    assert load({"symbols": "\u5e01\u5b89\u4eba\u751fusdt"}, env_file=None).symbols == ("\u5e01\u5b89\u4eba\u751fUSDT",)


def write(folder: Path, *lines: str) -> Path:
    file = folder / ".env"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BACKFILL_DAY", "BACKFILL_DAYS"),
        ("backfil_days", "BACKFILL_DAYS"),
        ("BACKFILLDAYS", "BACKFILL_DAYS"),
        ("SYMBOL", "SYMBOLS"),
        ("INTERVAL", "INTERVALS"),
        ("DBURL", "DB_URL"),
        ("DB_URI", "DB_URL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("KLINENODE_PORT", "PORT"),
        ("WORKER", "WORKERS"),
        ("ADMIN_TOKENS", "ADMIN_TOKEN"),
        ("HTTPS_PROXIES", "HTTPS_PROXY"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(tmp_path: Path, name: str, meant: str) -> None:
    """Otherwise the node silently does something else: BACKFILL_DAY=30 downloaded a year."""
    with pytest.raises(SettingsError) as caught:
        load(env_file=write(tmp_path, f"{name}=30", "PORT=many"))
    assert f"\n  {name}: no setting has this name, {meant} is the closest" in str(caught.value)
    assert "\n  PORT: " in str(caught.value), "all at once"


def test_a_strange_name_is_remarked_and_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL_DAY", "30")
    said: list[str] = []
    file = write(tmp_path, "COMPOSE_PROJECT_NAME=x", "TZ=UTC", "FTP_PROXY=x", "BACKFILL=3", "PORT=8001")
    assert load(env_file=file, remark=said.append).port == 8001
    text = "\n".join(said)
    assert all(name in text for name in ("COMPOSE_PROJECT_NAME", "TZ", "FTP_PROXY"))
    assert "BACKFILL, which is no setting of klinenode and changes nothing; is BACKFILL_DAYS meant?" in text
    assert "the environment has BACKFILL_DAY, which is no setting of klinenode: is BACKFILL_DAYS meant?" in text
    assert "PORT" not in text.replace("export", "")


def test_what_other_programs_set_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):  # noqa: TID251  as on another machine
        monkeypatch.delenv(name)
    common = (
        "HOSTNAME HOSTTYPE LOGNAME SHELL TERM PATH HOME USER LANG EDITOR PAGER FTP_PROXY GOPROXY GITHUB_TOKEN CI"
        " SYSTEMD JOURNAL_STREAM INVOCATION_ID DATABASE_URL REDIS_URL SSL_CERT VIRTUAL_ENV SUDO_USER SSH_TTY"
        " DISPLAY XDG_CACHE NODE_ENV NPM_TOKEN CACHE_DIR WEB_CONCURRENCY PYTHONPATH KUBERNETES_PORT"
        " KUBERNETES_SERVICE_HOST HTTP_PORT"
    )
    for name in common.split():
        monkeypatch.setenv(name, "x")
    said: list[str] = []
    load(env_file=None, remark=said.append)
    assert said == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"PORT: 8001\n", "line 1 is not NAME=value"),
        (b"HOST=127.0.0.1\nPORT\n", "line 2 gives PORT no value"),
        ("PORT=8001".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_line_that_sets_nothing_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(text)
    with pytest.raises(SettingsError, match=reason):
        load(env_file=file)


def test_a_file_of_windows_begins_with_a_mark(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfPORT=8001\r\n# a comment\r\nexport HOST='::1' # another\r\n")
    assert (load(env_file=file).port, load(env_file=file).host) == (8001, "::1")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """Docker creates a folder where a file to be mounted is missing."""
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(env_file=tmp_path)


@pytest.mark.parametrize(
    ("text", "host"),
    [("[::1]", "::1"), ("::", "::"), (" 0.0.0.0 ", "0.0.0.0"), ("fe80::1%eth0", "fe80::1%eth0"), ("my_box.lan", None)],
)
def test_a_host_may_be_written_in_many_ways(text: str, host: str | None) -> None:
    assert load({"host": text}, env_file=None).host == (host or text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "*", "http://0.0.0.0", "0.0.0.0:8000", "[::1]:8000", "a b", "127.0.0.1 # x", "a..b", "x" * 64, "\0"],
)
def test_what_is_no_host_is_refused_by_name(text: str) -> None:
    assert "\n  HOST: " in faults_of(host=text)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///:memory:",
        "sqlite:////",
        "sqlite:///data/",
        "sqlite:////var/lib/..",
        "sqlite:///x.db?mode=ro",
        "sqlite:///~/x.db",
        "sqlite:///x.db # main",
        "sqlite:///x%00.db",
        "sqlite://data/x.db",
        "sqlite:x.db",
        "x.db",
        "",
    ],
)
def test_a_database_that_serve_cannot_open_is_refused_at_once(text: str) -> None:
    assert "\n  DB_URL: " in faults_of(db_url=text)


@pytest.mark.parametrize(("text", "token"), [(" a b ", "a b"), ("gehe\u00efm \u5e01", "gehe\u00efm \u5e01")])
def test_a_token_may_have_blanks_and_any_letter(text: str, token: str) -> None:
    chosen = load({"admin_token": text}, env_file=None).admin_token
    assert chosen is not None
    assert chosen.get_secret_value() == token


@pytest.mark.parametrize("text", ["********", "a\nb", "a\0b"])
def test_a_token_that_cannot_be_sent_is_refused(text: str) -> None:
    assert "\n  ADMIN_TOKEN: " in faults_of(admin_token=text)


@pytest.mark.parametrize("text", ["9" * 5_000, "-1", "1e400", "nan", "1" * 40, "0x10", " ", "8000 # main", "８０"])
def test_absurd_numbers_are_faults_of_every_number(text: str) -> None:
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation is int]
    assert len(numbers) > 10
    said = faults_of(**dict.fromkeys(numbers, text))
    assert all(f"\n  {name.upper()}: " in said for name in numbers)
    assert len(said) < 200 * len(numbers)


def test_rules_about_several_values_are_checked_beside_wrong_ones() -> None:
    said = faults_of(port="many", price_klines="mark", https_proxy="socks4://proxy:1")
    assert all(word in said for word in ("\n  PORT: ", "PRICE_KLINES_SYMBOLS together", "\n  HTTPS_PROXY: "))
    assert "together" not in faults_of(price_klines_symbols="a b", price_klines="mark"), "no fault made of a default"


ON_LOOPBACK = {
    "binance_rest_url": "http://127.0.0.1:1",
    "binance_ws_url": "ws://localhost:1",
    "binance_archive_url": "http://[::1]:1",
}


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir"])
def test_no_proxy_and_no_certificate_is_fatal_where_only_loopback_is_asked(name: str) -> None:
    load({name: "socks4://nonsense", **ON_LOOPBACK}, env_file=None)
    load({name: "socks4://nonsense"}, env_file=None, asks_exchange=False)
    if name != "http_proxy":  # no upstream has an http:// URL
        assert f"\n  {name.upper()}: " in faults_of(**{name: "socks4://nonsense"})


def test_lower_case_goes_before_upper_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "upper:1")
    monkeypatch.setenv("https_proxy", "lower:1")
    monkeypatch.setenv("all_proxy", "socks5://all")
    monkeypatch.setenv("no_proxy", "data.binance.vision")
    chosen = load(env_file=None)
    assert chosen.egress_to("wss://fstream.binance.com").proxy == proxy_of("lower:1")
    assert chosen.egress_to("http://fapi.test").proxy == proxy_of("socks5://all")
    assert chosen.egress_to("https://data.binance.vision").proxy is None


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate\n")
    assert f"SSL_CERT_FILE: {file} cannot be used: it has no certificates in PEM" in faults_of(ssl_cert_file=str(file))
    assert "No such file" in faults_of(ssl_cert_file=str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HOST", "::1"),
        ("HOST", "localhost"),
        ("DB_URL", "sqlite:///./a%20b/%E5%B8%81.db"),
        ("DB_URL", "sqlite:////tmp/100%/a#b.db"),
        ("HTTPS_PROXY", "proxy:3128"),
        ("SYMBOLS", "BTCUSDT,ETHUSDT"),
        ("NO_PROXY", "a.test, 10.0.0.0/8"),
    ],
)
def test_what_config_prints_may_be_given_again(tmp_path: Path, name: str, text: str) -> None:
    first = load({name.lower(): text}, env_file=None)
    again = load(env_file=write(tmp_path, *(f"{key}={value}" for key, value in first.effective().items())))
    assert again == first


def test_secrets_may_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of systemd's credentials or a container's secrets; the environment goes before them."""
    (tmp_path / "admin_token").write_text("from-a-file\n")
    (tmp_path / "db_url").write_text("sqlite:////var/lib/klinenode/k.db\n")
    (tmp_path / "unrelated").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found = load(env_file=None)
    assert found.admin_token is not None
    assert found.admin_token.get_secret_value() == "from-a-file"
    assert found.db_url == "sqlite:////var/lib/klinenode/k.db"
    assert "from-a-file" not in repr(found.effective())
    monkeypatch.setenv("ADMIN_TOKEN", "from-the-environment")
    again = load(env_file=None).admin_token
    assert again is not None
    assert again.get_secret_value() == "from-the-environment"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    assert load(env_file=None).db_url == Settings.model_fields["db_url"].default
