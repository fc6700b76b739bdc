"""The report: one HTML file that opens from disk, for readers who are not privacy researchers."""

from sim.report.page import write_report

__all__ = ["write_report"]
