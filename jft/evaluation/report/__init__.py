"""The HTML report of a run, one self-contained page: `write_report`."""

from jft.evaluation.report.page import write_report

__all__ = ["write_report"]
