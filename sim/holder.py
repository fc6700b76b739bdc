"""What the holder of a device has before any attack: the model's file, taken apart."""

from __future__ import annotations

import numpy as np

from attacks.observation import Opened
from edge.reading import parameters, read, steps
from sim.given import fresh_model
from sim.scenario import Scenario


def opened(scenario: Scenario, model: bytes, calibration_records: int) -> Opened:
    """An exported model in the hands of somebody who knows its architecture, and how many records set its ranges."""
    reading, architecture = read(model), fresh_model(scenario)
    return Opened(
        weights=parameters(reading, architecture),
        low=np.array([each.low for each in reading.ranges]),
        high=np.array([each.high for each in reading.ranges]),
        extremes=reading.extremes,
        calibration_records=calibration_records,
        steps=steps(reading, architecture),
        grid=scenario.edge.round_ranges or 1.0,
    )
