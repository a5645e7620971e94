"""The settings of the collector, which are part of `app.settings.Settings`."""

from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from app import setting_values as values
from app.domain import letters
from app.domain.choice import TYPES_HELP, VENUES, parse_market, parse_symbol, parse_type
from app.domain.followed import Market

VENUE_URLS: Final = {"okx": ("okx_rest_url", "okx_ws_url"), "deribit": ("deribit_rest_url", "deribit_ws_url")}
"""By exchange: the settings with its addresses. Those of Binance are the node's own."""
_CsvList = Annotated[tuple[str, ...], NoDecode]
_MIB: Final = 1024**2
_BYTES_MAX: Final = 2**50  # as in app/settings.py
_HOUR_S: Final = 3_600


class CollectorSettings(BaseSettings):
    """What the collector follows, and where its records go."""

    exchanges: _CsvList = Field(
        (), description=f"Exchanges that the collector follows, of {','.join(VENUES)}; empty: there is no collector."
    )
    nats_url: str = Field(
        "",
        description="NATS server with JetStream that takes the collector's records: nats://user:password@host:4222, or "
        "tls:// for TLS; several of a cluster are separated by commas. Required with EXCHANGES.",
        repr=False,
    )
    collect_symbols: _CsvList = Field(
        ("BTC-USDT", "ETH-USDT", "deribit:BTC-USD", "deribit:ETH-USD"),
        description="Symbols to collect on every one of EXCHANGES that lists them, or on one: exchange:SYMBOL.",
    )
    collect_types: _CsvList = Field(
        ("trade", "orderbook", "ticker"), description=f"Types of data to collect of each symbol: {TYPES_HELP}."
    )
    collect_markets: _CsvList = Field(
        (),
        description=f"Markets of each symbol that are collected, of {','.join(Market)}; empty: the swap, or the spot "
        "market where there is no swap.",
    )
    collect_config: str = Field(
        "",
        description="File (YAML or JSON) that names what to collect, instead of COLLECT_SYMBOLS, COLLECT_TYPES and "
        "COLLECT_MARKETS; read again when it changes, and on SIGHUP.",
    )
    collect_dir: str = Field(
        "data/collect",
        description="Folder of the collector: what waits for NATS, what was stored, and what requests have changed.",
    )
    okx_rest_url: str = Field("https://www.okx.com", description="REST of OKX: scheme, host and port.")
    okx_ws_url: str = Field("wss://ws.okx.com:8443", description="Sockets of OKX: scheme, host and port.")
    deribit_rest_url: str = Field("https://www.deribit.com", description="REST of Deribit: scheme, host and port.")
    deribit_ws_url: str = Field("wss://www.deribit.com", description="Sockets of Deribit: scheme, host and port.")
    spill_bytes_max: int = Field(
        2_048 * _MIB,
        ge=16 * _MIB,
        le=_BYTES_MAX,
        description="Disk for records that wait in COLLECT_DIR while NATS takes none, bytes; beyond it records are "
        "dropped and fetched again later.",
    )
    nats_stream_bytes_max: int = Field(
        1_920 * _MIB,  # a server whose max_file_store is 2 GiB has room for it
        ge=64 * _MIB,
        le=_BYTES_MAX,
        description="Disk of the NATS server for all streams of the collector together, bytes; beyond it the oldest "
        "messages are dropped.",
    )
    nats_max_age_hours: int = Field(
        24, ge=1, le=24 * 365, description="How long the streams keep a message, at most, hours."
    )
    nats_duplicate_window_sec: int = Field(
        _HOUR_S,
        ge=60,
        le=7 * 24 * _HOUR_S,
        description="How long the streams recognize a message that is sent again, seconds: as long as the longest "
        "outage after which a reader is to see nothing twice; at most NATS_MAX_AGE_HOURS.",
    )
    trade_batch_max: int = Field(
        200, ge=1, le=1_000, description="Trades of one message at most; 1: every trade in a message of its own."
    )

    @field_validator("exchanges", "collect_symbols", "collect_types", "collect_markets", mode="before")
    @classmethod
    def _collect_items(cls, value: object) -> object:
        return values.items(value)

    @field_validator("exchanges")
    @classmethod
    def _known_exchanges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return values.choices(tuple(map(letters.lower, value)), VENUES, "exchange")

    @field_validator("collect_symbols")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_checked_symbol(each) for each in value))

    @field_validator("collect_types")
    @classmethod
    def _known_data(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(parse_type(each)) for each in value))

    @field_validator("collect_markets")
    @classmethod
    def _known_markets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(parse_market(each)) for each in value))

    @field_validator("nats_url")
    @classmethod
    def _nats(cls, value: str) -> str:
        return values.nats_urls(value) if value.strip() else ""

    @field_validator("okx_rest_url", "deribit_rest_url")
    @classmethod
    def _venue_http_url(cls, value: str) -> str:
        return values.plain_url(value, {"http", "https"}, "https://www.okx.com")

    @field_validator("okx_ws_url", "deribit_ws_url")
    @classmethod
    def _venue_ws_url(cls, value: str) -> str:
        return values.plain_url(value, {"ws", "wss"}, "wss://ws.okx.com:8443")

    @field_validator("collect_dir")
    @classmethod
    def _folder(cls, value: str) -> str:
        return values.folder(value)

    @model_validator(mode="after")
    def _window_within_age(self) -> Self:
        if self.nats_duplicate_window_sec > self.nats_max_age_hours * _HOUR_S:
            raise ValueError(
                "NATS_DUPLICATE_WINDOW_SEC is longer than NATS_MAX_AGE_HOURS, which a NATS server refuses: shorten the "
                "one or lengthen the other"
            )
        return self

    def collector_faults(self) -> list[str]:
        """What the collector lacks; not a rule of the fields, since the file of COLLECT_CONFIG may still say it."""
        if self.exchanges and not self.nats_url:
            return ["NATS_URL: set it as well as EXCHANGES: where the records go, for example nats://127.0.0.1:4222"]
        return []

    def venue_urls(self) -> tuple[str, ...]:
        """The names of the settings with addresses that the exchanges of the collector are reached at."""
        return tuple(name for venue in self.exchanges for name in VENUE_URLS.get(venue, ()))


def _checked_symbol(text: str) -> str:
    venue, colon, symbol = text.rpartition(":")
    if not colon:
        return parse_symbol(symbol)
    if (venue := letters.lower(venue.strip())) not in VENUES:
        raise ValueError(f"{text[:64]!r}: before the colon stands one of the exchanges {', '.join(VENUES)}")
    return f"{venue}:{parse_symbol(symbol)}"
