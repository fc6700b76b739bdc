"""The words for what a search under masks gave."""

from __future__ import annotations

from collections.abc import Iterator

from sim.results import RecoveryResult, Results

PROTOCOLS = {"secagg": "this tool's secure aggregation", "secagg-plus-flower": "Flower's SecAgg+"}


def sentences(results: Results) -> Iterator[str]:
    """What the masks were worth, in plain words."""
    for row in results.recoveries:
        if row.recovered:
            yield _found(row)
        elif row.full_search_core_minutes is not None:
            yield _not_found(row)
        else:
            yield _withstood(row)


def who(row: RecoveryResult) -> str:
    """Who is in league with the server, such as "client 3"."""
    return f"client{'s' if len(row.colluders) > 1 else ''} {', '.join(map(str, row.colluders))}"


def tried(row: RecoveryResult) -> str:
    """How much of the search was done, such as "65,536 of 2^28"."""
    return f"{row.searched:,} of 2^{row.search_bits}" if _partial(row) else f"all 2^{row.search_bits}"


def full_search(row: RecoveryResult) -> str:
    """What all of the work would be."""
    if row.full_search_core_minutes is None:
        return f"2^{row.effective_bits} steps"
    return f"{row.full_search_core_minutes:.1f} core-minutes"


def _partial(row: RecoveryResult) -> bool:
    return row.searched < 1 << row.search_bits


def _found(row: RecoveryResult) -> str:
    took = f"after {tried(row)} seeds, in {row.cpu_seconds:.0f} s of one core" if row.searched else "without a search"
    everything = f" All seeds take about {full_search(row)}." if row.full_search_core_minutes else ""
    return (
        f"The masks of {PROTOCOLS[row.protocol]} do not hold: the server, with {who(row)} on its side, got client"
        f" {row.victim}'s update of one round back, exact up to rounding, {took} (correlation with the true update"
        f" {row.correlation:.6f}, largest error {row.max_error:.0e}).{everything}"
    )


def _not_found(row: RecoveryResult) -> str:
    partial = ", so the search is partial and settles nothing" if _partial(row) else ""
    return (
        f"The server, with {who(row)} on its side, did not get client {row.victim}'s update back from under the masks"
        f" of {PROTOCOLS[row.protocol]}: it tried {tried(row)} seeds{partial}. All of them take about"
        f" {full_search(row)} at the measured rate."
    )


def _withstood(row: RecoveryResult) -> str:
    partial = " (a partial search)" if _partial(row) else ""
    return (
        f"The masks of {PROTOCOLS[row.protocol]} withstand the search that opens Flower's SecAgg+: the server, with"
        f" {who(row)} on its side, tried {tried(row)} seeds{partial} and did not get client {row.victim}'s update back."
        f" It would have to find a key instead, which takes about 2^{row.effective_bits} steps."
    )
