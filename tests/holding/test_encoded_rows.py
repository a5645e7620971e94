"""Rows stored side by side in bytes behave like a list of rows under every operation."""

import random
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance import rest_rows
from app.holding.encoded_rows import EncodedRows


def row(rng: random.Random) -> bytes:
    return b"[%d]" % rng.choice([rng.randrange(10), rng.randrange(10**6), 10**20])


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_sequence_of_changes_leaves_what_a_list_says(seed: int) -> None:
    rng = random.Random(seed)
    model = [row(rng) for _ in range(rng.randrange(5))]
    made = EncodedRows(model)
    for _ in range(60):
        what = rng.choice(["append", "append", "append", "replace", "drop", "before"])
        if what == "append":
            model.append(row(rng))
            made.append(model[-1])
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
