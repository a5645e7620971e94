"""Tests that every decoder survives thousands of mutations of valid samples, and that the loop finds planted errors."""

from pathlib import Path

import pytest

from tests.http.fakes import OTHERS_MAY_USE_RANDOM
from tests.programs.fuzz import run, seeds
from tests.programs.fuzz.mutate import hunt
from tests.programs.fuzz.targets import TARGETS, Target

RUNS = 4_000
SEED = 20261121
ACCEPTED_MIN = RUNS // 100  # accepted mutations; with fewer, the comparison after the decoder would check nothing


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_decoder_returns_a_value_or_raises_its_one_error(target: Target) -> None:
    hunted = hunt(target.run, target.seeds(), target.dictionary, RUNS, SEED)
    if hunted.failure is not None:
        pytest.fail(f"seed {SEED}, input {hunted.executions}: {hunted.failure.data!r}: {hunted.failure.error!r}")
    assert hunted.accepted >= ACCEPTED_MIN


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_most_samples_are_valid(target: Target) -> None:
    accepted = [target.run(sample) for sample in target.seeds()]
    assert sum(accepted) >= len(accepted) / 2


def test_recorded_samples_are_valid(realdata: Path) -> None:
    found = seeds.recorded(realdata)
    assert set(found) == {"rest_rows", "archive_csv", "exchange_info", "stream_event"}
    refused = [(name, data) for name, samples in found.items() for data in samples if not TARGETS[name].run(data)]
    assert refused == []


def test_a_planted_fault_is_found_by_the_loop() -> None:
    def careless(data: bytes) -> bool:
        return int(data.split(b":")[1].strip(b"}")) >= 0

    hunted = hunt(careless, [b'{"serverTime":1793491200000}'], (b"null",), RUNS, SEED)
    assert hunted.failure is not None
    assert isinstance(hunted.failure.error, ValueError | IndexError)
    with pytest.raises(type(hunted.failure.error)):
        careless(hunted.failure.data)
    again = hunt(careless, [b'{"serverTime":1793491200000}'], (b"null",), RUNS, SEED)
    assert again.failure is not None
    assert again.failure.data == hunted.failure.data, "a seed always finds the same"


@OTHERS_MAY_USE_RANDOM
def test_the_long_run_asks_a_node_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--runs", "0", "--cases", "200"]) == 0
    told = capsys.readouterr().out
    assert "ask_windows: 100 questions" in told
    assert "ask_by_schema: 100 questions" in told


@pytest.mark.skipif(not run.HAS_ATHERIS, reason="atheris has no wheel for this Python")
def test_the_long_run_counts_and_an_input_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "FINDINGS", tmp_path)
    assert run.main(["--target", "server_time", "--runs", "2000"]) == 0
    table = capsys.readouterr().out
    assert "2,000" in table
    assert "branches" in table
    sample = tmp_path / "server_time" / "corpus" / "sample-0"
    assert run.main(["--target", "server_time", "--input", str(sample)]) == 0
    assert "accepted: True" in capsys.readouterr().out
