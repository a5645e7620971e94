"""The header X-Archive-Rows: which rows of an answer came from the archive, and may have digits that REST never had."""

from typing import Any, Final

from app.http.headers import Header

ARCHIVE_ROWS: Final = "x-archive-rows"
_EXPOSED: Final[Header] = (b"access-control-expose-headers", b"X-Archive-Rows")  # readable from any origin

ARCHIVE_ROWS_DOC: Final[dict[str, Any]] = {
    "X-Archive-Rows": {
        "description": "Only if rows came from the archive: how many, and the timestamps of the first and the last row "
        "of each run of them. Eight runs are named; `more` stands for others.",
        "schema": {"type": "string", "pattern": r"^\d+; \d+-\d+(, \d+-\d+){0,7}(, more)?$"},
        "example": "30; 1735690200000-1735698900000",
    }
}


def archive_headers(archived: str) -> tuple[Header, ...]:
    """The headers of an answer; `archived` is their text (app/querying/archived_rows.py), "" if there are none."""
    return ((ARCHIVE_ROWS.encode(), archived.encode()), _EXPOSED) if archived else ()
