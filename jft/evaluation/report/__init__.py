"""One self-contained page about a run: `write_report`."""

from jft.evaluation.report.page import write_report

__all__ = ["write_report"]
