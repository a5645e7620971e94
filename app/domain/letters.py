"""Upper and lower case of ASCII letters alone: other characters do not change.

str.upper() turns ſ (U+017F) into S and ı into I, and str.lower() turns the Kelvin sign into k: a name that the exchange
does not know would be answered as one that it knows. Symbols with Chinese characters exist and stay as they are.
"""

import string
from typing import Final

_UPPER: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def upper(text: str) -> str:
    """`text` with a–z in upper case."""
    return text.upper() if text.isascii() else text.translate(_UPPER)


def lower(text: str) -> str:
    """`text` with A–Z in lower case."""
    return text.lower() if text.isascii() else text.translate(_LOWER)
