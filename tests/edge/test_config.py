"""The `[edge]` table."""

import pytest
from pydantic import ValidationError

from edge.config import EdgeConfig
from edge.devices import DEVICES


def test_the_defaults_are_usable():
    assert EdgeConfig().device in DEVICES
    assert EdgeConfig().calibration == "population"


def test_an_unknown_device_is_refused_with_the_known_ones():
    with pytest.raises(ValidationError) as caught:
        EdgeConfig(device="arduino-uno")
    assert "arduino-uno" in str(caught.value)
    assert all(name in str(caught.value) for name in DEVICES)


@pytest.mark.parametrize("wrong", [{"calibration_records": 9}, {"output": "labels"}, {"bits": 4}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        EdgeConfig(**wrong)


def test_every_field_is_described():
    assert all(field.description for field in EdgeConfig.model_fields.values())
