"""The parts of docs/ that are generated from code: settings, routes, commands, metrics, events, streams, make targets.

They are enclosed in `<!-- generated: NAME -->` and `<!-- end: NAME -->`. `make docs` writes them; a test compares them.
"""

import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer.main
from fastapi import FastAPI

from app.binance import stream_name
from app.cli import app as command_line
from app.collector_events import COLLECTOR_EVENTS
from app.domain.reason import Reason
from app.events import EVENTS
from app.http.refused import REFUSED
from app.market.endpoints import ENDPOINTS
from app.node import collector_gauges, gauges, replay
from app.node.node import Node
from app.node.parts import Parts
from app.settings import Settings, load, sample
from infra.sqlite.migrate import HEAD_SQL
from tests.sqlite.head_schema import head_schema

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
STREAMS: Final = {
    "<symbol>@aggTrade": "Aggregate trades",
    "<symbol>@trade": "Single trades (undocumented at the exchange)",
    "<symbol>@kline_<interval>": "Klines",
    "p<SYMBOL>@kline_<interval>": "Klines of the premium index; `i<SYMBOL>@kline_<interval>`: of the price index",
    "<pair>_<contractType>@continuousKline_<interval>": "Klines of a pair's contract; also with interval `1s`",
    "<symbol>@markPrice": "Mark price and funding rate; `@markPrice@1s`: every second",
    "!markPrice@arr": "The same of all symbols; also `!markPrice@arr@1s`",
    "<symbol>@miniTicker": "24 h ticker, short form",
    "!miniTicker@arr": "The same of all symbols that changed",
    "<symbol>@ticker": "24 h ticker",
    "!ticker@arr": "The same of all symbols that changed",
    "<symbol>@bookTicker": "Best bid and ask",
    "!bookTicker": "The same of all symbols, one frame each",
    "<symbol>@depth<5|10|20>": "The best levels of the book; `@100ms`, `@250ms` or `@500ms` may follow",
    "<symbol>@depth": "Changes of the book; `@100ms`, `@250ms` or `@500ms` may follow",
    "<symbol>@rpiDepth@500ms": "Changes of the book with retail price improvement orders",
    "<symbol>@forceOrder": "Liquidations",
    "!forceOrder@arr": "The same of all symbols",
    "<symbol>@compositeIndex": "What a composite index is made of",
    "<asset>@assetIndex": "The rate of an asset as margin, for example `btcusd@assetIndex`",
    "!assetIndex@arr": "The same of all assets",
    "!contractInfo": "Listings, deliveries and changes of contracts",
    "tradingSession": "When traditional markets are open",
}
"""By stream name as a client writes it: what the stream has. All kinds of streams that the code knows must be here."""
_EXAMPLES: Final = {"<symbol>": "btcusdt", "<SYMBOL>": "BTCUSDT", "<pair>": "btcusdt", "<contractType>": "perpetual",
                    "<interval>": "1m", "<asset>": "btcusd", "<5|10|20>": "5"}  # fmt: skip


def documents() -> list[Path]:
    """The documents that contain a generated block."""
    return [path for path in sorted((ROOT / "docs").glob("*.md")) if BLOCK.search(path.read_text())]


def generated(text: str, folder: Path) -> str:
    """A document's text with every block generated again; `folder` is for the files of a node."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]](folder)}\n{found[3]}", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- |", "|---|").replace("| --- ", "|---")


def fastapi_of(asgi: Any) -> FastAPI:
    """The FastAPI application inside the ASGI layers around it."""
    seen = []
    while not isinstance(asgi, FastAPI):
        seen.append(type(asgi).__name__)
        inner = [value for name in ("app", "_app") if (value := getattr(asgi, name, None)) is not None]
        assert inner, f"no FastAPI inside {seen}"
        asgi = inner[0]
    return asgi


def node_in(folder: Path) -> Node:
    """A node with its database in `folder`; it is not started."""
    return Node(Parts(load({"db_url": f"sqlite:///{folder}/k.db", "log_level": "ERROR"}, env_file=None)))


def summaries(folder: Path) -> dict[str, str]:
    """By route, for example "GET /v1/health": its summary in the OpenAPI description."""
    paths: dict[str, dict[str, dict[str, str]]] = fastapi_of(node_in(folder).app).openapi()["paths"]
    return {f"{verb.upper()} {path}": each["summary"] for path, verbs in paths.items() for verb, each in verbs.items()}


def commands() -> Mapping[str, Any]:
    """The commands of `klinenode` by name; those of a group have two words."""
    top: Mapping[str, Any] = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
    found: dict[str, Any] = {}
    for name, command in top.items():
        found |= {f"{name} {each}": sub for each, sub in getattr(command, "commands", {}).items()} or {name: command}
    return found


# --- the generated blocks ---------------------------------------------------------------------------------------------


def _settings(_: Path) -> str:
    defaults = dict(line.split("=", 1) for line in sample().splitlines() if line and not line.startswith("#"))
    rows = []
    for name, field in Settings.model_fields.items():
        bounds = {
            key: value
            for each in field.metadata
            for key in ("ge", "le")
            if (value := getattr(each, key, None)) is not None
        }
        allowed = f"{bounds['ge']:,} to {bounds['le']:,}" if len(bounds) == 2 else "–"
        default = defaults[name.upper()]
        rows.append((f"`{name.upper()}`", f"`{default}`" if default else "–", allowed, field.description or ""))
    return table(("Variable", "Default", "Range", "What"), rows)


def _routes(folder: Path) -> str:
    others = {f"GET {path}" for path in ENDPOINTS} | {
        f"{verb} {path}" for path, verbs in REFUSED.items() for verb in verbs
    }
    return table(
        ("Route", "What"),
        [(f"`{route}`", summary) for route, summary in summaries(folder).items() if route not in others],
    )


def _reasons(_: Path) -> str:
    rows = [(f"`{reason}`", f"{reason.meaning[0].upper()}{reason.meaning[1:]}.") for reason in Reason]
    return table(("Word", "Meaning"), rows)


def _market_data(_: Path) -> str:
    rows = [(f"`GET {each.path}`", each.summary, each.mode.value, each.holds_text) for each in ENDPOINTS.values()]
    return table(("Endpoint", "What", "Answered", "An answer holds for"), rows)


def _refused(_: Path) -> str:
    return "".join(f"- {', '.join(f'`{verb} {path}`' for verb in verbs)}\n" for path, verbs in REFUSED.items())


def _streams(_: Path) -> str:
    rows, kinds = [], set()
    for name, what in STREAMS.items():
        example = name
        for mark, value in _EXAMPLES.items():
            example = example.replace(mark, value)
        stream = stream_name.parse(example)
        assert stream is not None, f"no stream has the name {example}"
        kinds.add(stream.kind)
        rows.append((f"`{name}`", what, f"`/{stream.route}`", "newest only" if stream.is_state else "every event"))
    assert kinds == set(stream_name._KINDS), f"not described: {set(stream_name._KINDS) - kinds}"
    return table(("Stream", "What", "At the exchange", "To a slow reader"), rows)


def _commands(_: Path) -> str:
    parts = [
        table(("Command", "What"), [(f"`klinenode {name}`", _first(each.help)) for name, each in commands().items()])
    ]
    options: dict[tuple[str, str, str], list[str]] = {}
    for name, command in commands().items():
        for option in command.params:
            if "--help" not in option.opts and option.param_type_name == "option":
                default = "–" if option.default in (None, False, ()) else f"`{option.default}`"
                options.setdefault((f"`{option.opts[0]}`", default, option.help or ""), []).append(f"`{name}`")
    rows = [(option, ", ".join(names), default, what) for (option, default, what), names in options.items()]
    return "\n".join([*parts, table(("Option", "Of", "Default", "What"), rows)])


def _metrics(_: Path) -> str:
    of_events = (metric for event in (*EVENTS, *COLLECTOR_EVENTS) for metric in event.METRICS)
    declared = [*of_events, *gauges.METRICS, *collector_gauges.METRICS, *replay.METRICS]
    rows = [(f"`{metric.name}`", metric.type, metric.help) for metric in declared]
    return table(("Metric", "Kind", "What"), sorted(rows))


def _events(_: Path) -> str:
    rows = [
        (f"`{event.__name__}`", logging.getLevelName(event.LEVEL), _first(event.__doc__))
        for event in (*EVENTS, *COLLECTOR_EVENTS)
    ]
    return table(("Event", "Level", "What"), rows)


def _targets(_: Path) -> str:
    lines = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return table(("Command", "What"), [(f"`make {name}`", f"{what[0].upper()}{what[1:]}.") for name, what in lines])


def _first(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((text or "").strip().partition("\n\n")[0].split())


BLOCKS: Final[Mapping[str, Callable[[Path], str]]] = {
    "settings": _settings,
    "routes": _routes,
    "reasons": _reasons,
    "market-data": _market_data,
    "refused": _refused,
    "streams": _streams,
    "commands": _commands,
    "metrics": _metrics,
    "events": _events,
    "targets": _targets,
}


def main() -> None:
    """Write every generated block into the documents, and the schema that the revisions come to."""
    with tempfile.TemporaryDirectory() as folder:
        HEAD_SQL.write_text(head_schema(Path(folder) / "head.db"))
        for path in documents():
            path.write_text(generated(path.read_text(), Path(folder)))


if __name__ == "__main__":
    main()
