"""How far the export is that a process makes for a request, for metrics and overview."""

from dataclasses import dataclass


@dataclass(slots=True)
class ExportProgress:
    """Of the one export under way; all 0 while there is none."""

    running: int = 0
    series: int = 0
    rows_due: int = 0
    """Rows that open in the spans asked for; what is missing or absent of them is not written."""
    rows_written: int = 0

    def begin(self, series: int, rows_due: int) -> None:
        """An export of so many series and rows begins."""
        self.running, self.series, self.rows_due, self.rows_written = 1, series, rows_due, 0

    def advance(self, rows: int) -> None:
        """So many more rows were written; fewer than 0 when a file is written again."""
        self.rows_written += rows

    def end(self) -> None:
        """Nothing is under way any more."""
        self.running = self.series = self.rows_due = self.rows_written = 0
