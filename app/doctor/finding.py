"""A finding: what one check of the doctor says."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How serious a finding is: `fail` keeps the node from working, `warn` is worth a look."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """The result of a check: its name, one sentence, and what to do next (empty if nothing)."""

    check: str
    state: State
    sentence: str
    advice: str = ""


def ok(check: str, sentence: str) -> Finding:
    """A finding with which nothing has to be done."""
    return Finding(check, State.OK, sentence)


def warn(check: str, sentence: str, advice: str) -> Finding:
    """A finding with which the node works, but worse than it could."""
    return Finding(check, State.WARN, sentence, advice)


def fail(check: str, sentence: str, advice: str) -> Finding:
    """A finding with which the node does not start, or does not do its work."""
    return Finding(check, State.FAIL, sentence, advice)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings is a failure: the exit status of the command is 1 then."""
    return any(finding.state is State.FAIL for finding in findings)
