"""Every setting: name, default and help; read from environment, `.env` or secrets' files, and validated together."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import services_file, setting_names, trace_settings
from app import setting_values as values
from app.collector_settings import CollectorSettings
from app.domain import letters
from app.domain.interval import INTERVALS, M1, Interval
from app.domain.symbol import CONTRACT_TYPES
from app.kinds import PRICE_KLINES
from app.outbound import Destination, Egress, certificate_faults, is_exempt, is_loopback, masked, proxy_of

SECRETS: Final = frozenset({"ADMIN_TOKEN", "CLUSTER_TOKEN"})
CLUSTER_TOKEN_MIN: Final = 16
CONTAINER_SECRETS: Final = "/run/secrets"
PRICE_WEIGHT_SHARE: Final = 4  # price klines may use a quarter of WEIGHT_PER_MINUTE as they close, 1 for each
OUTBOUND: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
UPSTREAMS: Final = ("binance_rest_url", "binance_ws_url", "binance_archive_url")
WITH_CREDENTIALS: Final = frozenset(
    name.upper()
    for name in ("db_url", "db_read_url", "cache_url", "nats_url", "http_proxy", "https_proxy", "all_proxy", *UPSTREAMS)
)
FILE_SETTINGS: Final = frozenset(CollectorSettings.model_fields) - {"collect_config", "exchanges"} | {
    "port",
    "log_level",
}
"""What the file of COLLECT_CONFIG may set; the environment goes before it."""
ALL_SYMBOLS: Final = "ALL"  # in METRICS and FUNDING: every followed symbol
_BYTES_MAX: Final = 2**50  # for memory and disk: more than a petabyte is a typing error
_CsvList = Annotated[tuple[str, ...], NoDecode]


class SettingsError(Exception):
    """The settings cannot be used; the message lists every fault and how to correct it."""


class NodeSettings(BaseSettings):
    """The settings of a node without those of the collector."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8-sig", extra="ignore", frozen=True)

    symbols: _CsvList = Field(
        ("BTCUSDT", "ETHUSDT"), description="Symbols to hold until the first symbol sync, or always without it."
    )
    intervals: _CsvList = Field(
        ("1m", "3m", "5m", "15m", "1h", "4h", "1d"),
        description="Intervals to hold, any of Binance's 15: " + ",".join(INTERVALS) + ".",
    )
    backfill_days: int = Field(365, ge=1, le=4000, description="How many days back every series is held.")
    auto_sync_symbols: bool = Field(True, description="Follow the exchange's list of trading perpetuals.")
    symbol_sync_interval_sec: int = Field(300, ge=5, le=86_400, description="Seconds between two symbol syncs.")
    quote_assets: _CsvList = Field(("USDT",), description="Quote assets whose contracts are followed.")
    contract_types: _CsvList = Field(
        ("PERPETUAL", "TRADIFI_PERPETUAL"),
        description="Contract types that are followed: " + ",".join(CONTRACT_TYPES) + ".",
    )
    price_klines: _CsvList = Field(
        (), description="Price klines to hold as well, of PRICE_KLINES_SYMBOLS: " + ",".join(PRICE_KLINES) + "."
    )
    price_klines_symbols: _CsvList = Field(
        (), description="Symbols whose price klines are held, for INTERVALS and BACKFILL_DAYS; fetched by REST only."
    )
    metrics: _CsvList = Field(
        (),
        description="Symbols whose 5-minute metrics are held (open interest, long/short ratios, taker volume), or all: "
        "of every followed symbol, or none. The exchange has them for 30 days.",
    )
    funding: _CsvList = Field(
        (),
        description="Symbols whose funding rates are held (of BACKFILL_DAYS, at least of 41 days), or all: of every "
        "followed symbol, or none.",
    )
    db_url: str = Field(
        "sqlite:///./data/klinenode.db",
        description="Where klines are kept: a SQLite file, or postgresql://user:password@host:5432/database.",
        repr=False,
    )
    db_read_url: str | None = Field(
        None,
        description="A streaming replica of DB_URL, from which processes that do not write read rows when it has what "
        "they promise; empty: none.",
        repr=False,
    )
    timescale: bool = Field(
        False,
        description="Make the tables of rows hypertables (TimescaleDB), in a Postgres database that has none yet.",
    )
    runtime_dir: str = Field(
        "",
        description="Folder of the files that a database's processes share (sockets, token); empty: the database's, or "
        "data/ if a server keeps it.",
    )
    cache_url: str = Field(
        "",
        description="Redis in which the nodes of one database share what they have read: "
        "redis://user:password@host:6379/0, or rediss:// for TLS; empty: none. It is never needed.",
        repr=False,
    )
    cache_ttl_sec_klines: int = Field(10, ge=0, le=3600, description="Longest max-age of a klines answer, seconds.")
    cache_bytes_max: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, le=_BYTES_MAX, description="Memory for rendered answers, bytes per process."
    )
    tail_bytes_max: int = Field(
        192 * 1024 * 1024,
        ge=1024 * 1024,
        le=_BYTES_MAX,
        description="Memory for the newest klines of all series, bytes.",
    )
    fetch_concurrency: int = Field(4, ge=1, le=32, description="Upstream fetches for backfill at the same time.")
    archive_processes: int | None = Field(
        None,
        ge=0,
        le=4,
        description="Processes that unpack archive files; empty: one for each core, at most 4. 0, or a single core: "
        "a thread of the node does it.",
    )
    binance_rest_url: str = Field("https://fapi.binance.com", description="REST: scheme, host and port.")
    binance_ws_url: str = Field("wss://fstream.binance.com", description="Market sockets: scheme, host and port.")
    binance_archive_url: str = Field("https://data.binance.vision", description="Archive: scheme, host and port.")
    http_proxy: str | None = Field(
        None, description="Proxy for http:// and ws:// upstream addresses: http://, https:// or socks5://host:port."
    )
    https_proxy: str | None = Field(None, description="Proxy for https:// and wss:// upstream addresses, likewise.")
    all_proxy: str | None = Field(None, description="Proxy for upstream addresses that have none of the two above.")
    no_proxy: str | None = Field(
        None, description="Upstreams requested without a proxy: names, domains, addresses, networks, or * for all."
    )
    ssl_cert_file: str | None = Field(
        None, description="PEM file of the certificates trusted instead of the system's and the bundled ones."
    )
    ssl_cert_dir: str | None = Field(None, description="Folder of such certificates, prepared by `openssl rehash`.")
    weight_per_minute: int = Field(
        2400, ge=20, le=100_000, description="REST weight the exchange grants this IP a minute."
    )
    data_bucket: Literal["shared", "endpoint"] = Field(
        "shared",
        description="Whether the exchange grants 1,000 requests of /futures/data in five minutes to all its endpoints "
        "together (shared, which is safe) or to each (endpoint).",
    )
    only_final_default: bool = Field(True, description="Whether klines without only_final= are closed ones only.")
    read_through: bool = Field(True, description="Fetch from the exchange what is asked for and not held yet.")
    strict_retention: bool = Field(
        False,
        description="Whether metrics that the exchange itself no longer has (older than 30 days) are refused as there, "
        "although they are held.",
    )
    seal_after_days: float = Field(
        3,
        ge=0,
        le=3650,
        description="Days after which rows are kept as compressed blocks, a third of the size; 0: never.",
    )
    verify_every_days: int = Field(
        30,
        ge=0,
        le=3650,
        description="Days after which held klines are compared with the exchange again; 0: only when asked.",
    )
    read_stale_sec_max: int = Field(
        0,
        ge=0,
        le=86_400,
        description="How old the newest kline of a series may be to count as fresh (for /v1/ready, and as proof that "
        "none is newer), seconds; at least one interval and its grace. 0: two intervals of the series.",
    )
    connections_max: int = Field(
        2048,
        ge=16,
        le=100_000,
        description="HTTP connections per process, without socket clients. One more replaces the one idle longest, "
        "or gets 503 when none is idle.",
    )
    stream_clients_max: int = Field(
        1000, ge=0, le=100_000, description="Socket clients per process; 0: none are served."
    )
    stream_queue_bytes_max: int = Field(
        1024 * 1024,
        ge=64 * 1024,
        le=1024**3,
        description="Bytes queued for a socket client that reads too slowly before it is disconnected.",
    )
    disk_free_bytes_min: int = Field(
        2 * 1024**3,
        ge=0,
        le=_BYTES_MAX,
        description="Free disk below which backfill pauses (live ingest goes on), bytes.",
    )
    admin_token: SecretStr | None = Field(
        None,
        description="Bearer token of /v1/admin; empty: generated, in a file in RUNTIME_DIR.",
    )
    node_url: str = Field(
        "",
        description="Where nodes on other hosts reach this one, scheme, host and port; empty: on this machine only.",
    )
    cluster_token: SecretStr | None = Field(
        None,
        description="What the nodes of one Postgres database show each other, the same on all of them, at least 16 "
        "characters; empty: nodes on other hosts are neither asked nor admitted.",
    )
    api_keys_file: str = Field(
        "",
        description="File with the SHA-256 and the quota of each API key (`klinenode key new`); empty: no key needed.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log level.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="Lines of the log: json, text (sentences for people), or auto: text on a terminal, else json.",
    )
    host: str = Field("127.0.0.1", description="Address or name to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="Processes that answer; one of them writes.")

    @field_validator(
        "symbols",
        "intervals",
        "quote_assets",
        "contract_types",
        "price_klines",
        "price_klines_symbols",
        mode="before",
    )
    @classmethod
    def _items(cls, value: object) -> object:
        return values.items(value)

    @field_validator("metrics", "funding", mode="before")
    @classmethod
    def _items_or_none(cls, value: object) -> object:
        return () if isinstance(value, str) and letters.upper(value.strip()) == "NONE" else values.items(value)

    @field_validator("archive_processes", "db_read_url", *OUTBOUND, mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("data_bucket", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return letters.lower(value.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return letters.upper(value) if isinstance(value, str) else value

    @field_validator("admin_token", "cluster_token", mode="before")
    @classmethod
    def _token(cls, value: object) -> object:
        return values.token(value) if isinstance(value, str) else value

    @field_validator("cluster_token")
    @classmethod
    def _long_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < CLUSTER_TOKEN_MIN:
            raise ValueError(f"a token that nobody guesses has at least {CLUSTER_TOKEN_MIN} characters")
        return value

    @field_validator("node_url")
    @classmethod
    def _reachable(cls, value: str) -> str:
        return values.plain_url(value, {"http", "https"}, "http://10.0.0.5:8000") if value else value

    @field_validator("symbols", "quote_assets", "price_klines_symbols", "metrics", "funding")
    @classmethod
    def _symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return values.symbols(value)

    @field_validator("quote_assets")
    @classmethod
    def _some_quote_asset(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one, for example USDT")
        return value

    @field_validator("intervals")
    @classmethod
    def _known_intervals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError(f"name at least one of {','.join(INTERVALS)}")
        return values.choices(value, INTERVALS, "interval (1m is not 1M)")

    @field_validator("contract_types")
    @classmethod
    def _known_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError(f"name at least one of {','.join(CONTRACT_TYPES)}")
        return values.choices(tuple(map(letters.upper, value)), CONTRACT_TYPES, "contract type")

    @field_validator("metrics", "funding")
    @classmethod
    def _all_or_some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if ALL_SYMBOLS in value and len(value) > 1:
            raise ValueError("give all, or the names of symbols")
        return value

    @field_validator("price_klines")
    @classmethod
    def _known_families(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return values.choices(value, PRICE_KLINES, "kind of price klines")

    @field_validator("binance_rest_url", "binance_archive_url")
    @classmethod
    def _plain_http_url(cls, value: str) -> str:
        return values.plain_url(value, {"http", "https"}, "https://fapi.binance.com")

    @field_validator("binance_ws_url")
    @classmethod
    def _plain_ws_url(cls, value: str) -> str:
        return values.plain_url(value, {"ws", "wss"}, "wss://fstream.binance.com")

    @field_validator("db_url")
    @classmethod
    def _database(cls, value: str) -> str:
        return values.database_url(value)

    @field_validator("db_read_url")
    @classmethod
    def _replica(cls, value: str | None) -> str | None:
        return None if value is None else values.server_url(value)

    @field_validator("cache_url")
    @classmethod
    def _cache(cls, value: str) -> str:
        return values.cache_url(value) if value.strip() else ""

    @field_validator("host")
    @classmethod
    def _listens(cls, value: str) -> str:
        return values.host(value)

    @model_validator(mode="after")
    def _someone_to_follow(self) -> Self:
        if not self.auto_sync_symbols and not self.symbols:
            raise ValueError("set SYMBOLS, or AUTO_SYNC_SYMBOLS=true: with neither there is nothing to hold")
        return self

    @model_validator(mode="after")
    def _replica_of_something(self) -> Self:
        if self.db_read_url is not None and not values.is_server(self.db_url):
            raise ValueError("DB_READ_URL is for a replica of a server, and DB_URL names a file: leave it empty")
        return self

    @model_validator(mode="after")
    def _timescale_of_postgres(self) -> Self:
        if self.timescale and not values.is_server(self.db_url):
            raise ValueError("TIMESCALE is an extension of Postgres, and DB_URL names a file: leave TIMESCALE out")
        return self

    @model_validator(mode="after")
    def _prices_of_something(self) -> Self:
        if bool(self.price_klines) != bool(self.price_klines_symbols):
            raise ValueError(
                "set PRICE_KLINES and PRICE_KLINES_SYMBOLS together: which price klines, and of which symbols"
            )
        closes = sum((M1.grid.step_ms / each.grid.step_ms for each in self.interval_list), 0.0)
        weight = round(len(self.price_klines) * len(self.price_klines_symbols) * closes)
        if weight > self.weight_per_minute // PRICE_WEIGHT_SHARE:
            raise ValueError(
                f"price klines of {len(self.price_klines_symbols)} symbols would cost a weight of {weight} a minute, "
                "more than a quarter of WEIGHT_PER_MINUTE; give fewer PRICE_KLINES_SYMBOLS, PRICE_KLINES or INTERVALS"
            )
        return self

    @model_validator(mode="after")
    def _reached_by_someone(self) -> Self:
        if self.cluster_token is not None and not self.node_url:
            raise ValueError("set NODE_URL as well as CLUSTER_TOKEN: where the other nodes reach this one")
        return self

    @property
    def interval_list(self) -> tuple[Interval, ...]:
        """The wished intervals, shortest first."""
        return tuple(INTERVALS[code] for code in self.intervals)


class Settings(CollectorSettings, NodeSettings):
    """All settings. Lists may be written as CSV or JSON."""

    @property
    def is_data_shared(self) -> bool:
        """Whether the endpoints of /futures/data share one limit of requests."""
        return self.data_bucket == "shared"

    def destination(self, url: str) -> Destination:
        """An upstream address with the way to it. Raises ValueError, which names the variable, as `egress_to`."""
        return Destination(url, self.egress_to(url))

    def egress_to(self, url: str) -> Egress:
        """The proxy and certificates for an upstream URL. Raises ValueError, naming the variable, for an invalid proxy.

        Loopback addresses and those in NO_PROXY are requested directly, whatever the proxies are.
        """
        parts = urlsplit(url)
        specific = "https_proxy" if parts.scheme in {"https", "wss"} else "http_proxy"
        name = specific if getattr(self, specific) else "all_proxy"
        text = getattr(self, name)
        proxy = None
        if text and not is_loopback(parts.hostname or "") and not is_exempt(self.no_proxy or "", url):
            try:
                proxy = proxy_of(text)
            except ValueError as error:
                raise ValueError(f"{name.upper()}: {error}") from None
        is_secret = parts.scheme in {"https", "wss"} or (proxy is not None and proxy.scheme == "https")
        return Egress(proxy, self.ssl_cert_file, self.ssl_cert_dir) if is_secret else Egress(proxy)

    def outbound_faults(self) -> list[str]:
        """Why the exchange cannot be reached with these settings; a proxy that no upstream URL uses is no fault."""
        faults, ways = [], {}
        for name in (*UPSTREAMS, *self.venue_urls()):
            try:
                egress = self.egress_to(getattr(self, name))
            except ValueError as error:
                faults.append(str(error))
            else:
                ways[egress.ca_file, egress.ca_dir] = egress  # reading a bundle takes a tenth of a second
        for egress in ways.values():
            faults.extend(certificate_faults(egress))
        return list(dict.fromkeys(faults))

    def without_exchange(self) -> Self:
        """A copy without proxies and certificates, for a process that sends no request to the exchange."""
        return self.model_copy(update=dict.fromkeys(OUTBOUND))

    def effective(self) -> dict[str, str]:
        """By variable name: the value in force, with secrets masked."""
        return {name.upper(): _shown(name.upper(), getattr(self, name)) for name in type(self).model_fields}


def load(
    overrides: Mapping[str, object] | None = None,
    env_file: Path | None = Path(".env"),
    *,
    asks_exchange: bool = True,
    remark: Callable[[str], None] = lambda text: None,
) -> Settings:
    """Read the settings; `overrides` win over environment and `.env`. Raises SettingsError with all faults.

    `remark` is called with warnings, such as a misspelt variable. `asks_exchange`: whether proxies and certificates are
    checked too.
    """
    known = [name.upper() for name in Settings.model_fields]
    faults = setting_names.faults_in(env_file, known, remark) if env_file is not None else []
    for name, meant in setting_names.unknown(os.environ, known):  # noqa: TID251  the one place
        if meant:  # most variables of the environment are not klinenode's
            remark(f"the environment has {name}, which is no setting of klinenode: is {meant} meant?")
    given = {**_lower_case(OUTBOUND), **(overrides or {})}
    if env_file is not None:
        for name, value in trace_settings.told_in(env_file).items():  # the libraries read the environment alone
            os.environ.setdefault(name, value)  # noqa: TID251  the one place
    faults += trace_settings.propagator_faults(os.environ)  # noqa: TID251  the one place
    settings, more = _checked(given, env_file)
    faults += more
    if settings is not None and settings.collect_config and not more:
        settings, more = _with_file(settings, given, env_file)
        faults += more
    if settings is not None:
        faults += settings.collector_faults()
    if asks_exchange and settings is not None:
        faults += settings.outbound_faults()
    if faults or settings is None:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise SettingsError(f"these settings (environment or .env) cannot be used:{lines}")
    return settings


def notify_socket() -> str | None:
    """The socket at which systemd waits for the notifications of this service; None if none does."""
    return os.environ.get("NOTIFY_SOCKET") or None  # noqa: TID251  the one place


def traces_wish() -> trace_settings.TracesWish | None:
    """What OTEL_… asks for; None: no traces."""
    return trace_settings.wish_in(os.environ)  # noqa: TID251  the one place


def allows_colour() -> bool:
    """Whether NO_COLOR (https://no-color.org) is not set: a terminal may get colours."""
    return not os.environ.get("NO_COLOR")  # noqa: TID251  the one place


def secrets_folder() -> Path | None:
    """The folder with files named like settings, in lower case: systemd's credentials, or a container's secrets."""
    folder = Path(os.environ.get("CREDENTIALS_DIRECTORY") or CONTAINER_SECRETS)  # noqa: TID251  the one place
    return folder if folder.is_dir() else None


def _checked(given: Mapping[str, object], env_file: Path | None) -> tuple[Settings | None, list[str]]:
    """The settings, or their faults.

    If single values are wrong, they are replaced by their defaults, so that rules about several values are checked too.
    """
    try:
        return Settings(_env_file=env_file, _secrets_dir=secrets_folder(), **given), []  # type: ignore[arg-type]
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
    except (ValueError, OSError) as error:  # the file cannot be read: setting_names has reported it
        return None, [] if env_file is not None else [f"SETTINGS: {error}"]
    named = {str(fault["loc"][0]).lower() for fault in faults if fault["loc"]}
    lines = [f"{str((fault['loc'] or ['settings'])[0]).upper()}: {_plainly(fault['msg'])}" for fault in faults]
    doubtful = named or set(Settings.model_fields).difference(OUTBOUND, UPSTREAMS)
    good = {**given, **{name: Settings.model_fields[name].default for name in doubtful}}
    settings, more = _checked(good, env_file) if good != given else (None, [])
    return settings, lines + [each for each in more if not any(name.upper() in each for name in named)]


def _with_file(
    settings: Settings, given: Mapping[str, object], env_file: Path | None
) -> tuple[Settings | None, list[str]]:
    """The settings with what the file of COLLECT_CONFIG says where they have their defaults, or the faults."""
    try:
        found = services_file.read(Path(settings.collect_config), FILE_SETTINGS)
    except services_file.ServicesFileError as error:
        return settings, [f"COLLECT_CONFIG: {error}"]
    if strange := [name for name in found.choices if settings.exchanges and name not in settings.exchanges]:
        return settings, [f"COLLECT_CONFIG: the file has {strange[0]}, and EXCHANGES has not; name it there as well"]
    silent = [name for name, field in Settings.model_fields.items() if getattr(settings, name) == field.default]
    told: dict[str, object] = {**found.settings, "exchanges": tuple(found.choices)}
    return _checked({**given, **{name: told[name] for name in silent if name in told}}, env_file)


def _lower_case(names: Iterable[str]) -> dict[str, str]:
    """Variables set in lower case, which by custom for proxies take precedence over upper case."""
    return {name: text for name in names if (text := os.environ.get(name, "").strip())}  # noqa: TID251  the one place


def _plainly(message: str) -> str:
    return message.removeprefix("Value error, ")


def sample() -> str:
    """The text of `.env.sample`: every variable with its help and its default."""
    lines = [
        "# Settings of klinenode. Copy to .env and change what you need; every value below is the default.",
        "# Lists may be CSV or JSON. `klinenode config` shows what is in force.",
    ]
    for name, field in Settings.model_fields.items():
        value = _plain(field.default)
        lines += ["", f"# {field.description}", f"{name.upper()}={value}"]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def _shown(name: str, value: object) -> str:
    if name in SECRETS:
        return values.MASK if value else ""
    return masked(_plain(value)) if name in WITH_CREDENTIALS else _plain(value)
