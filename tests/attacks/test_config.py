import pytest
from pydantic import ValidationError

from attacks.config import USUAL, AttackConfig
from attacks.registry import ATTACKS


def test_the_usual_attacks_run_unless_told_otherwise():
    assert set(USUAL) <= set(ATTACKS)
    assert AttackConfig().names == USUAL
    assert AttackConfig().references == 4
    assert AttackConfig(names=["rmia"]).names == ("rmia",)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"names": ["rima"]}, "no attack 'rima'; there are: loss, lira, rmia, cosine, loss-series"),
        ({"names": ["loss", "loss"]}, "loss is named twice"),
        ({"names": []}, "at least 1 item"),
        ({"references": 0}, "greater than or equal to 1"),
        ({"references": 257}, "less than or equal to 256"),
        ({"reference": 4}, "Extra inputs are not permitted"),
    ],
)
def test_faults_are_named(table, message):
    with pytest.raises(ValidationError, match=message):
        AttackConfig(**table)
