"""Upper and lower case of ASCII letters alone: no other character becomes an ASCII one, or changes at all.

str.upper() makes an S of ſ (U+017F) and an I of ı, str.lower() a k of the Kelvin sign: a name that the exchange does
not know would be answered as one that it knows. Symbols with Chinese characters exist and stay as they are.
"""

import string
from typing import Final

_UPPER: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def upper(text: str) -> str:
    """`text` with a–z as A–Z."""
    return text.upper() if text.isascii() else text.translate(_UPPER)


def lower(text: str) -> str:
    """`text` with A–Z as a–z."""
    return text.lower() if text.isascii() else text.translate(_LOWER)
