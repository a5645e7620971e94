"""A gap's reason is one of the words that the documentation explains, whatever a library said."""

import re
from pathlib import Path

from app.domain.gap_reason import GapReason

ROWS = re.compile(r"^\| (`[a-z_`, ]+`) \| ", re.MULTILINE)


def test_the_documentation_explains_every_reason_there_is_and_no_other() -> None:
    text = Path("docs/collector.md").read_text().partition("## Gaps\n")[2].partition("\n## ")[0]
    named = [name for row in ROWS.findall(text) for name in re.findall(r"[a-z_]+", row)]
    assert sorted(named) == sorted(GapReason)
