"""What a model costs to run: `count` its work, then `latency` and `energy` on a device, each an `Estimate`."""

from edge.cost.estimate import Estimate, energy, latency
from edge.cost.macs import Work, count

__all__ = ["Estimate", "Work", "count", "energy", "latency"]
