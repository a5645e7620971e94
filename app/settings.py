"""Every setting: its name, its default and its one-line help; read from the environment or `.env`, checked at once."""

import json
import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain import letters
from app.domain.interval import INTERVALS, M1, Interval
from app.domain.symbol import CONTRACT_TYPES
from app.wire.families import PRICES

SECRETS: Final = frozenset({"ADMIN_TOKEN"})
PRICE_WEIGHT_SHARE: Final = 4  # of WEIGHT_PER_MINUTE a quarter may go on price klines as they close, 1 for each
_SYMBOL: Final = re.compile(r"\w[\w.-]{0,63}")  # as app/wire/exchange_info.py
_CsvList = Annotated[tuple[str, ...], NoDecode]


class SettingsError(Exception):
    """The settings are not usable; the message lists every fault and how to mend it."""


class Settings(BaseSettings):
    """The node's settings. Lists may be written as CSV or JSON."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

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
        (), description="Klines of prices that are held too, of the symbols below: " + ",".join(PRICES) + "."
    )
    price_klines_symbols: _CsvList = Field(
        (), description="Symbols whose price klines are held, in INTERVALS and BACKFILL_DAYS; by REST alone."
    )
    db_url: str = Field("sqlite:///./data/klinenode.db", description="Where klines are kept (SQLite file).")
    cache_ttl_sec_klines: int = Field(10, ge=0, le=3600, description="Longest max-age of a klines answer, seconds.")
    cache_bytes_max: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, description="Memory for rendered answers, bytes per process."
    )
    tail_bytes_max: int = Field(
        192 * 1024 * 1024, ge=1024 * 1024, description="Memory for the newest klines of all series, bytes."
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
    http_proxy: str | None = Field(None, description="Proxy for http:// and ws:// upstream addresses.")
    https_proxy: str | None = Field(None, description="Proxy for https:// and wss:// upstream addresses.")
    weight_per_minute: int = Field(
        2400, ge=20, le=100_000, description="REST weight the exchange grants this IP a minute."
    )
    only_final_default: bool = Field(True, description="Whether klines without only_final= are closed ones only.")
    read_through: bool = Field(True, description="Fetch from the exchange what is asked for and not held yet.")
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
        description="Oldest newest kline that counts as fresh (readiness; proofs that there is none newer), seconds; "
        "never less than one interval and its grace. 0 means two intervals of the series.",
    )
    stream_clients_max: int = Field(
        1000, ge=0, le=100_000, description="Socket clients per process; 0: none are served."
    )
    stream_queue_bytes_max: int = Field(
        1024 * 1024,
        ge=64 * 1024,
        le=1024**3,
        description="What may wait for a socket client that reads too slowly before it is cut, bytes.",
    )
    disk_free_bytes_min: int = Field(
        2 * 1024**3, ge=0, description="Backfill pauses (live goes on) below this much free disk, bytes."
    )
    admin_token: SecretStr | None = Field(
        None, description="Bearer token of /v1/admin. Without one only local clients are answered."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log level.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
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
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip()
        items = json.loads(text) if text.startswith("[") else text.split(",")
        return tuple(str(item).strip() for item in items if str(item).strip())

    @field_validator("archive_processes", "http_proxy", "https_proxy", "admin_token", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return letters.upper(value) if isinstance(value, str) else value

    @field_validator("symbols", "quote_assets", "price_klines_symbols")
    @classmethod
    def _symbols_upper(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(letters.upper(item) for item in value))

    @field_validator("intervals")
    @classmethod
    def _known_intervals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [item for item in value if item not in INTERVALS]
        if unknown or not value:
            raise ValueError(f"unknown interval {unknown}; Binance has {','.join(INTERVALS)} (1m is not 1M)")
        return tuple(code for code in INTERVALS if code in value)

    @field_validator("contract_types")
    @classmethod
    def _known_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(item.upper() for item in value))
        if (unknown := [item for item in chosen if item not in CONTRACT_TYPES]) or not chosen:
            raise ValueError(f"unknown contract type {unknown}; there are {','.join(CONTRACT_TYPES)}")
        return chosen

    @field_validator("price_klines")
    @classmethod
    def _known_families(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [item for item in value if item not in PRICES]:
            raise ValueError(f"unknown family {unknown}; there are {','.join(PRICES)}")
        return tuple(word for word in PRICES if word in value)

    @field_validator("price_klines_symbols")
    @classmethod
    def _possible_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [item for item in value if not _SYMBOL.fullmatch(item)]:
            raise ValueError(
                f"{wrong} are no symbols; give names as exchangeInfo has them, for example BTCUSDT,ETHUSDT"
            )
        return value

    @field_validator("binance_rest_url", "binance_archive_url")
    @classmethod
    def _plain_http_url(cls, value: str) -> str:
        return _plain_url(value, {"http", "https"}, "https://fapi.binance.com")

    @field_validator("binance_ws_url")
    @classmethod
    def _plain_ws_url(cls, value: str) -> str:
        return _plain_url(value, {"ws", "wss"}, "wss://fstream.binance.com")

    @field_validator("http_proxy", "https_proxy")
    @classmethod
    def _proxy_url(cls, value: str | None) -> str | None:
        return value and _plain_url(value, {"http", "https"}, "http://proxy.example:3128")

    @field_validator("db_url")
    @classmethod
    def _sqlite_url(cls, value: str) -> str:
        if not value.startswith("sqlite:///") or not value.removeprefix("sqlite:///"):
            raise ValueError("give a SQLite file, for example sqlite:///./data/klinenode.db")
        return value

    @model_validator(mode="after")
    def _someone_to_follow(self) -> Self:
        if not self.auto_sync_symbols and not self.symbols:
            raise ValueError("set SYMBOLS, or AUTO_SYNC_SYMBOLS=true: with neither there is nothing to hold")
        return self

    @model_validator(mode="after")
    def _prices_of_something(self) -> Self:
        if bool(self.price_klines) != bool(self.price_klines_symbols):
            raise ValueError(
                "set PRICE_KLINES and PRICE_KLINES_SYMBOLS together: which price klines, and of which symbols"
            )
        closes = sum((M1.grid.step_ms / each.grid.step_ms for each in self.interval_list), 0.0)
        weight = round(len(self.price_series) * closes)
        if weight > self.weight_per_minute // PRICE_WEIGHT_SHARE:
            raise ValueError(
                f"price klines of {len(self.price_klines_symbols)} symbols would cost a weight of {weight} a minute, "
                "more than a quarter of WEIGHT_PER_MINUTE; give fewer PRICE_KLINES_SYMBOLS, PRICE_KLINES or INTERVALS"
            )
        return self

    @property
    def price_series(self) -> tuple[str, ...]:
        """The symbols of the series of prices that are held."""
        families = [PRICES[word] for word in self.price_klines]
        return tuple(dict.fromkeys(each.named(symbol) for symbol in self.price_klines_symbols for each in families))

    @property
    def interval_list(self) -> tuple[Interval, ...]:
        """The wished intervals, shortest first."""
        return tuple(INTERVALS[code] for code in self.intervals)

    def proxy_for(self, url: str) -> str | None:
        """The proxy for an upstream address; loopback is never proxied."""
        parts = urlsplit(url)
        if _is_loopback(parts.hostname or ""):
            return None
        return self.https_proxy if parts.scheme in {"https", "wss"} else self.http_proxy

    def effective(self) -> dict[str, str]:
        """Every setting as it is in force, secrets masked; by variable name."""
        return {name.upper(): _shown(name.upper(), getattr(self, name)) for name in type(self).model_fields}


def load(overrides: Mapping[str, object] | None = None, env_file: Path | None = Path(".env")) -> Settings:
    """Read the settings; `overrides` win over both sources. Raises SettingsError naming every fault at once."""
    try:
        return Settings(_env_file=env_file, **(overrides or {}))  # type: ignore[arg-type]
    except (ValidationError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise SettingsError(f"settings cannot be read: {error}") from error
        faults = [
            f"  {'.'.join(str(part) for part in fault['loc']).upper() or 'SETTINGS'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("these settings (environment or .env) need mending:\n" + "\n".join(faults)) from None


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


def _plain_url(value: str, schemes: Collection[str], example: str) -> str:
    try:
        parts = urlsplit(value)
        is_plain = parts.port != 0 and not parts.path.strip("/") and not parts.query and not parts.fragment
    except ValueError:  # the port is no port, or the brackets do not close
        is_plain = False
    if not is_plain or parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"give scheme, host and port only, for example {example}")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        return "********" if value else ""
    text = _plain(value)
    parts = urlsplit(text) if "://" in text else None
    if parts is None or "@" not in parts.netloc:
        return text
    return parts._replace(netloc="********@" + parts.netloc.rpartition("@")[2]).geturl()
