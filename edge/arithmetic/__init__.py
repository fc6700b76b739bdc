"""The device's arithmetic on batches of records: bit for bit what TFLite Micro computes, many times as fast.

For bulk queries. Whether it is equal is not taken on trust: `checked` compares it with TFLite Micro on a few random
records of each model before the first answer. Import this package from inside a function: it loads torch.
"""

from __future__ import annotations

from edge.arithmetic.check import checked, exact
from edge.arithmetic.graph import KERNELS, Compiled, compiled

__all__ = ["KERNELS", "Compiled", "checked", "compiled", "exact"]
