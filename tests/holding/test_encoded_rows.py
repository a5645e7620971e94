"""Rows stored side by side in bytes, compressed or not, behave like a list of rows under every operation."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance import rest_rows
from app.holding import encoded_rows
from app.holding.encoded_rows import FRAME_ROWS, EncodedRows


def row(rng: random.Random) -> bytes:
    return b"[%d]" % rng.choice([rng.randrange(10), rng.randrange(10**6), 10**20])


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32))
def test_any_sequence_of_changes_leaves_what_a_list_says(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoded_rows, "FRAME_ROWS", 3)
        check(random.Random(seed))


def check(rng: random.Random) -> None:
    model = [row(rng) for _ in range(rng.randrange(5))]
    made = EncodedRows(model)
    for _ in range(60):
        what = rng.choice(["append", "append", "append", "replace", "drop", "before", "pack", "pack"])
        if what == "append":
            model.append(row(rng))
            made.append(model[-1])
        elif what == "pack":
            made.pack()
            assert made.plain_bytes == 0
        elif what == "replace":
            places = rng.sample(range(len(model)), min(len(model), rng.randrange(4)))
            others = {place: rng.choice([model[place][::-1], row(rng)]) for place in places}
            made.replace(others)
            model = [others.get(place, each) for place, each in enumerate(model)]
        elif what == "before":
            older = [row(rng) for _ in range(rng.randrange(5))]
            rows = EncodedRows.of_body(rest_rows.join(older)) if rng.random() < 0.5 else EncodedRows([b"[]", *older])
            if len(rows) > len(older):
                rows.drop_front(1)
            number = rng.randrange(-1, len(older) + 1)
            made.put_before(rows, number)
            model = older[: max(0, number)] + model
        else:
            number = rng.randrange(min(4, len(model) + 1))
            made.drop_front(number)
            del model[:number]
        first, end = sorted((rng.randrange(len(model) + 1), rng.randrange(len(model) + 1)))
        assert (len(made), bool(made), list(made)) == (len(model), bool(model), model)
        assert made[first:end] == model[first:end]
        assert [made[place] for place in range(first, end)] == model[first:end]
        if rng.random() < 0.5:
            continue  # reading decompresses
        assert bytes(made.joined(first, end)) == b",".join(model[first:end])
        assert rest_rows.join_text(made.joined(first, end), model[:2]) == rest_rows.join(
            [*model[first:end], *model[:2]]
        )
    if model:
        assert (made[-1], made[0]) == (model[-1], model[0])


def test_what_is_held_stays_an_eighth_above_the_rows_however_long_they_are_followed() -> None:
    rng, made = random.Random(1), EncodedRows()
    row_bytes, rows_max, slack = 140, 500, 62
    for number in range(20_000):
        made.append(b"%*d" % (row_bytes, rng.randrange(10**9)))
        if len(made) > rows_max + slack:
            made.drop_front(slack)
        if number % 37 == 0:
            made.replace({rng.randrange(len(made)): b"%*d" % (row_bytes, rng.randrange(10**9))})
        if len(made) >= rows_max:
            held = sys.getsizeof(made._text) + sys.getsizeof(made._ends)
            assert held <= (len(made) * (row_bytes + 9) + 200) * 9 // 8, number


def test_rows_are_decompressed_only_as_far_back_as_they_are_read() -> None:
    rng = random.Random(1)
    model = [b"[17%08d,%d]" % (number, rng.randrange(10**6)) for number in range(1_500)]
    made = EncodedRows(model)
    size = made.plain_bytes
    made.pack()
    packed = sum(len(text) for _, text in made._frames)
    assert packed < size // 2
    made.append(b"[1]")
    assert made[1_400:] == [*model[1_400:], b"[1]"]
    assert made.plain_bytes == len(b"[1],"), "rows that are copied one by one stay compressed"
    assert bytes(made.joined(1_000, 1_500)) == b",".join(model[1_000:])
    assert len(b",".join(model[1_000:])) <= made.plain_bytes <= len(b",".join(model[1_000 - FRAME_ROWS :])) + 5
    made.drop_front(900)
    assert list(made) == [*model[900:], b"[1]"]
    assert made.plain_bytes < size // 2


def test_rows_that_are_compressed_one_by_one_take_no_more_room_than_all_at_once() -> None:
    rng = random.Random(1)
    model = [b"[17%08d,%d]" % (number, rng.randrange(10**6)) for number in range(200)]
    made, at_once = EncodedRows(), EncodedRows(model)
    at_once.pack()
    for row in model:
        made.append(row)
        made.pack()
    assert [rows for rows, _ in made._frames] == [rows for rows, _ in at_once._frames] == [64, 64, 64, 8]
    assert list(made) == model
