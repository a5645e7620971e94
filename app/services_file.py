"""The file of COLLECT_CONFIG: what to collect, and settings for which the environment says nothing; YAML or JSON.

The nodes of the YAML text are read one by one, so that every fault has its line and nothing is guessed from its look.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from app.domain.choice import TEXT_CHARS_MAX, VENUES, Choice, parse_market, parse_symbol, parse_type
from app.domain.followed import Market

FILE_BYTES_MAX: Final = 256 * 1024  # 3,000 symbols with their types; reading so much takes two seconds
FAULTS_MAX: Final = 20  # of one message: whoever has more to correct begins with these
SECTION: Final = "market-data-collector"
"""The key under which everything may stand, in a file that other services share."""
_SYMBOL_KEYS: Final = ("market", "data_types")
_NULL: Final = "tag:yaml.org,2002:null"


class ServicesFileError(Exception):
    """The file cannot be used; the message names all faults with their lines."""


class ServicesFile(NamedTuple):
    """What the file says: texts of settings by name in lower case, and by exchange what to follow there."""

    settings: Mapping[str, str]
    choices: Mapping[str, tuple[Choice, ...]]


def read(path: Path, settings: Collection[str]) -> ServicesFile:
    """Read the file; `settings` are the names it may set. Raises ServicesFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ServicesFileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return parse(content, settings, is_json=path.suffix == ".json")
    except ServicesFileError as error:
        raise ServicesFileError(f"{path}: {error}") from error


def parse(content: bytes, settings: Collection[str], *, is_json: bool = False) -> ServicesFile:
    """Read the content of the file. Raises ServicesFileError."""
    if len(content) > FILE_BYTES_MAX:
        raise ServicesFileError(f"it is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ServicesFileError("it is not UTF-8 text; save it as UTF-8") from None
    try:
        # JSON is YAML but for tabs, which YAML allows in no indentation and JSON in no string
        root = yaml.compose(text.expandtabs() if is_json else text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ServicesFileError(f"{line}this is neither YAML nor JSON: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ServicesFileError(f"this is neither YAML nor JSON: {error}") from error
    reading = _Reading(settings)
    found = reading.file(root)
    if reading.faults:
        more = len(reading.faults) - FAULTS_MAX
        raise ServicesFileError("; ".join(reading.faults[:FAULTS_MAX]) + (f"; and {more} more faults" * (more > 0)))
    return found


class _Reading:
    """Reads one file and notes every fault of it."""

    def __init__(self, settings: Collection[str]) -> None:
        self._settings = settings
        self.faults: list[str] = []

    def file(self, root: Any, *, is_section: bool = False) -> ServicesFile:
        """Everything that the file says."""
        settings: dict[str, str] = {}
        choices: dict[str, tuple[Choice, ...]] = {}
        for name, key, value in self._items(root, "the file"):
            if name == SECTION and not is_section:
                inner = self.file(value, is_section=True)
                settings |= inner.settings
                choices |= inner.choices
            elif name == "exchanges":
                choices |= {venue: self._exchange(node) for venue, node in self._venues(value)}
            elif name in self._settings:
                if (text := self._text(value, name)) is not None:
                    settings[name] = text
            else:
                self._fault(key, f"{name!r} is no key here; there are exchanges, {', '.join(sorted(self._settings))}")
        return ServicesFile(settings, choices)

    def _venues(self, node: Any) -> Iterator[tuple[str, Any]]:
        for name, key, value in self._items(node, "exchanges"):
            if name in VENUES:
                yield name, value
            else:
                self._fault(key, f"{name!r} is no exchange; there are {', '.join(VENUES)}")

    def _exchange(self, node: Any) -> tuple[Choice, ...]:
        found: list[Choice] = []
        for name, key, value in self._items(node, "an exchange"):
            try:
                symbol = parse_symbol(name)
            except ValueError as error:
                self._fault(key, str(error))
                continue
            each = value if isinstance(value, yaml.SequenceNode) and _is_of_mappings(value) else None
            entries = each.value if each is not None else [value]
            found += [choice for entry in entries if (choice := self._choice(symbol, entry)) is not None]
        return tuple(found)

    def _choice(self, symbol: str, node: Any) -> Choice | None:
        """What is said of one symbol: a list of types, or an object of `market` and `data_types`."""
        market: Market | None = None
        types = node
        if isinstance(node, yaml.MappingNode):
            types = None
            for name, key, value in self._items(node, symbol):
                if name == "data_types":
                    types = value
                elif name == "market":
                    market = self._parsed(value, parse_market, "market")
                else:
                    self._fault(key, f"{name!r} is no key of a symbol; there are {', '.join(_SYMBOL_KEYS)}")
        if not isinstance(types, yaml.SequenceNode):
            self._fault(types or node, f"{symbol} needs a list of types, for example [trade, orderbook]")
            return None
        parsed = [self._parsed(each, parse_type, "a type") for each in types.value]
        return Choice(symbol, market, tuple(dict.fromkeys(each for each in parsed if each is not None)), is_own=True)

    def _parsed(self, node: Any, parse_text: Any, what: str) -> Any:
        text = self._text(node, what)
        try:
            return None if text is None else parse_text(text)
        except ValueError as error:
            self._fault(node, str(error))
        return None

    def _items(self, node: Any, what: str) -> Iterator[tuple[str, Any, Any]]:
        """The keys of a mapping with their nodes; nothing written there is an empty one."""
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL):
            return
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, f"{what} must have the form `name: …`")
            return
        seen: set[str] = set()
        for key, value in node.value:
            name = self._text(key, "a name")
            if name is None:
                continue
            if name in seen:
                self._fault(key, f"{name[:TEXT_CHARS_MAX]!r} stands here twice")
                continue
            seen.add(name)
            yield name[:TEXT_CHARS_MAX], key, value

    def _text(self, node: Any, what: str) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self._fault(node, f"{what} must be a plain value")
        return None

    def _fault(self, node: Any, text: str) -> None:
        self.faults.append(f"line {node.start_mark.line + 1}: {text}")


def _is_of_mappings(node: Any) -> bool:
    return bool(node.value) and all(isinstance(each, yaml.MappingNode) for each in node.value)
