"""Features on one scale: how far apart they lie, and standardising them with figures of the attacker's own records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sim.data.federation import Federation

HUNDREDFOLD = 100.0  # the largest scale over the small ones; training on what lies further apart rarely gets anywhere
_LOW_END = 10  # the percentile that stands for the small scales: one odd feature is no reason to speak

Features = Float[np.ndarray, " features"]
Records = Float[np.ndarray, "records ..."]


def uneven(federation: Federation) -> str | None:
    """A warning where scales of features lie a hundredfold apart or more; None where they do not.

    A feature's scale is its largest magnitude among the clients' records. Of signals and images a feature is a channel.
    """
    each = np.stack([_per_feature(np.abs(client.x)).max(axis=0) for client in federation.clients])
    scales = each.max(axis=0)
    there = np.flatnonzero(scales > 0)
    if not len(there):
        return None
    small = np.percentile(scales[there], _LOW_END, method="lower")
    if scales.max() < HUNDREDFOLD * small:
        return None
    large, least = int(scales.argmax()), int(there[scales[there].argmin()])
    what = "feature" if federation.clients[0].x.ndim == _FLAT else "channel"
    return (
        f"the {what}s lie {scales[large] / small:,.0f}-fold apart or more (the largest magnitude of {what} {large} is "
        f"{scales[large]:.3g}, that of {what} {least} {scales[least]:.3g}), and a model may learn nothing from the "
        "small ones: bring them to one scale, or set data.standardise = true"
    )


def standardised(federation: Federation) -> Federation:
    """The federation with every feature less its mean and over its deviation among the attacker's own records.

    No member has a say in either figure, so they release nothing about anybody whom a budget protects. A feature that
    is constant among those records is only centred. Of signals and images a feature is a channel.
    """
    own = _per_feature(federation.population.x).astype(np.float64)
    mean = own.mean(axis=0)
    deviation = own.std(axis=0)
    deviation[deviation == 0] = 1.0
    clients = tuple(replace(client, x=_scaled(client.x, mean, deviation)) for client in federation.clients)
    population = replace(federation.population, x=_scaled(federation.population.x, mean, deviation))
    note = (
        f"features were standardised with means and deviations of the attacker's {len(federation.population):,} own "
        "records, in which no member has a say; a device must do the same to its inputs"
    )
    return replace(
        federation,
        clients=clients,
        population=population,
        notes=(*federation.notes, note),
        scaling=(tuple(mean.tolist()), tuple(deviation.tolist())),
    )


_FLAT = 2  # dimensions of records that are rows of features


def _per_feature(x: Records) -> Float[np.ndarray, "values features"]:
    """One row for each value of each feature: records as they are, or every sample or pixel of each channel."""
    return x if x.ndim == _FLAT else np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _scaled(x: Records, mean: Features, deviation: Features) -> Records:
    shape = (1, -1, *(1,) * (x.ndim - _FLAT))
    found: Records = ((x - mean.reshape(shape)) / deviation.reshape(shape)).astype(np.float32)
    return found
