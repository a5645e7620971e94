"""Integers from texts and back are those of `int` and `str`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.integers import integers, texts

NUMBERS = st.integers(0, 1 << 130) | st.integers(0, 1 << 65) | st.integers(0, 10)


@given(st.lists(NUMBERS))
def test_they_are_those_of_int_and_str(numbers: list[int]) -> None:
    plain = list(map(str, numbers))
    assert texts(numbers) == plain
    assert integers(",".join(plain)) == numbers


@pytest.mark.parametrize("text", ["1,,2", "1,a", "1.5", "1.0", "1,2,", "1e3", "null", "7,007", '"1"'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expected"):
        integers(text)
