"""The words for what the ranges of the shipped files say of the calibration records."""

from __future__ import annotations

from collections.abc import Iterator

from sim.report import words
from sim.results import CalibrationLeak, Called, Results

ADVICE = 'Calibrate on records that may be public (edge.calibration = "population").'


def sentences(results: Results) -> Iterator[str]:
    """Whether the calibration set shows, in plain words."""
    for row in results.calibration_leak:
        found, excluded = row.found, row.excluded
        says = "shows in" if shows(row, len(results.calibration_leak)) else "does not visibly show in"
        yield (
            f"Who calibrated the int8 ranges {says} the {model(row)}: of {row.candidates:,} records,"
            f" {trained(results)}, {row.inside:,} set the ranges, and the ranges alone tell them from the others with"
            f" AUC {auc(row)}; {public_auc(row)} where public records set them. Sure a thousand to one, the holder of"
            f" the file names {right(found)}, and rules out {right(excluded)} {words.interval(excluded.share_ci)} of"
            f" those that were not used.{f' {ADVICE}' if shows(row, len(results.calibration_leak)) else ''}"
        )


def shows(row: CalibrationLeak, looks: int = 1) -> bool:
    """Whether the interval lies above chance, all `looks` counted, or somebody is named with more right than wrong."""
    named = row.found.right_ci is not None and row.found.right_ci[0] > row.inside / row.candidates
    return words.above_chance(row.auc, row.auc_ci, looks) or named


def model(row: CalibrationLeak) -> str:
    """Which files, such as "global int8 model" or "16 personal int8 models"."""
    return "global int8 model" if row.target == "global" else f"{row.models} personal int8 models"


def trained(results: Results) -> str:
    """What all candidates have in common."""
    return "all trained on" if results.calibration.source == "members" else "none of them trained on"


def auc(row: CalibrationLeak) -> str:
    """With its interval."""
    return f"{words.rate(row.auc)} {words.interval(row.auc_ci)}"


def public_auc(row: CalibrationLeak) -> str:
    """Of the control, with its interval."""
    return f"{words.rate(row.public_auc)} {words.interval(row.public_auc_ci)}"


def right(calls: Called) -> str:
    """How often the attacker is right where it is sure, such as "31 of 320 (30 rightly)"."""
    if not calls.called:
        return f"none of {calls.of:,}"
    how = "all rightly" if calls.right == calls.called else f"{calls.right:,} rightly"
    return f"{calls.called:,} of {calls.of:,} ({how})"
