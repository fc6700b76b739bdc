"""A scenario may name a recovery beside its membership attacks."""

import pytest
from pydantic import ValidationError

from attacks.config import AttackConfig
from attacks.mask_recovery import SEED_BITS
from attacks.recoveries import RECOVERIES
from attacks.registry import ATTACKS


def test_a_recovery_is_asked_for_by_name():
    config = AttackConfig(names=["loss", "mask-recovery"])
    assert config.names == ("loss", "mask-recovery") and config.mask_seeds == 2**SEED_BITS
    assert not set(AttackConfig().names) & set(RECOVERIES)
    assert not set(ATTACKS) & set(RECOVERIES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"names": ["mask-recovery"]}, "none of these tells members from others; name one of loss, lira"),
        ({"names": ["loss", "mask-recover"]}, "no attack 'mask-recover'; there are: loss, .*, mask-recovery"),
        ({"mask_seeds": 0}, "greater than or equal to 1"),
        ({"mask_seeds": 2**28 + 1}, "less than or equal to 268435456"),
    ],
)
def test_faults_are_named(table, message):
    with pytest.raises(ValidationError, match=message):
        AttackConfig(**table)
