"""Names that are no settings: what each was probably meant to be, in `.env` and in the environment."""

from collections.abc import Callable, Collection, Iterable
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Final, NamedTuple

from dotenv.parser import parse_stream

LIKENESS: Final = 0.8  # from here on a name is taken for a misspelt one: BACKFILL_DAY has 0.96, DB_URI for DB_URL 0.83
SURE_LIKENESS: Final = 0.93  # from here on whatever the first letter is: WEB_CONCURRENCY for FETCH_CONCURRENCY has 0.81
NAME_CHARS_MAX: Final = 40  # what is longer is nobody's misspelling, and comparing takes longer than it helps
LENGTHS_APART_MAX: Final = 3  # SSL_CERT is another program's, and no SSL_CERT_FILE
HINT_LIKENESS: Final = 0.6  # from here on a name is worth a hint
PREFIX: Final = "KLINENODE_"
OPENTELEMETRY: Final = "OTEL_"  # the names of app/trace_settings.py, which are no settings and change something
FOREIGN: Final = frozenset({"FTP_PROXY", "RSYNC_PROXY", "GRPC_PROXY", "WS_PROXY", "WSS_PROXY"})
"""Variables of other programs that only look like ours."""


class EnvFile(NamedTuple):
    """What an `.env` says beside its values."""

    names: tuple[str, ...]
    faults: tuple[str, ...]


def faults_in(path: Path, known: Collection[str], remark: Callable[[str], None]) -> list[str]:
    """What is wrong with an `.env` beside its values: lines that set nothing, and names that are misspelt."""
    try:
        if not path.exists():
            return []
        file = _read(path)
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror or error}; make it a file this user may read, or remove it"]
    except ValueError:
        return [f"{path} cannot be read: it is not UTF-8 text; save it as UTF-8"]
    faults = [f"{path}: {fault}" for fault in file.faults]
    for name, meant in unknown(file.names, known):
        if meant:
            faults.append(f"{name}: no setting has this name, {meant} is the closest; correct or remove it in {path}")
        else:
            hint = f"; is {closest} meant?" if (closest := _hint(name, known)) else ""
            remark(f"{path} has {name}, which is no setting of klinenode and changes nothing{hint}")
    return faults


def _read(path: Path) -> EnvFile:
    """The names that a file sets, and its lines that set nothing. Raises OSError and ValueError (no UTF-8)."""
    names, faults = [], []
    with path.open(encoding="utf-8-sig") as stream:
        for each in parse_stream(stream):
            if each.error:
                faults.append(f"line {each.original.line} is not NAME=value")
            elif each.key is not None and each.value is None:
                faults.append(f"line {each.original.line} gives {each.key:.64} no value; write {each.key:.64}=…")
            elif each.key is not None:
                names.append(each.key)
    return EnvFile(tuple(dict.fromkeys(names)), tuple(faults))


def unknown(names: Iterable[str], known: Collection[str]) -> list[tuple[str, str | None]]:
    """Those of `names` that are no settings, each with the one it is a misspelling of, if it is one.

    Case does not matter, as in the environment.
    """
    return [
        (name, _meant(name, known))
        for name in names
        if name.upper() not in known and not name.startswith(OPENTELEMETRY)
    ]


def _meant(name: str, known: Collection[str]) -> str | None:
    wanted = name.upper().replace("-", "_").removeprefix(PREFIX)
    if wanted in FOREIGN or not 3 <= len(wanted) <= NAME_CHARS_MAX:
        return None
    near = [each for each in known if abs(len(wanted) - len(each)) <= LENGTHS_APART_MAX]
    for each in near:
        if each.replace("_", "") == wanted.replace("_", ""):
            return each
    for each in get_close_matches(wanted, near, n=3, cutoff=LIKENESS):
        if wanted[0] == each[0] or SequenceMatcher(None, wanted, each).ratio() >= SURE_LIKENESS:
            return each
    return None


def _hint(name: str, known: Collection[str]) -> str | None:
    """The setting that a name is a little like."""
    begun = [each for each in known if each.startswith(f"{name.upper()}_")]
    found = begun or get_close_matches(name.upper()[:NAME_CHARS_MAX], known, n=1, cutoff=HINT_LIKENESS)
    return found[0] if found else None
