"""What cannot be tried is refused before any training, and what is said to be there really is."""

import pytest

from attacks.attack import NEEDS
from attacks.registry import ATTACKS
from sim.errors import InputError
from sim.preflight import preflight
from sim.scenario import changed
from sim.vantage_needs import available, untriable


def asking(scenario, protocol, *names):
    return changed(scenario, {"aggregation": {"protocol": protocol}, "attacks": {"names": list(names)}})


def test_every_need_is_met_somewhere_and_every_attack_can_be_tried_in_the_open(tiny):
    seen = available(tiny)
    assert set().union(*seen.values()) == set(NEEDS)
    for name in ATTACKS:
        assert not list(untriable(asking(tiny, "none", name))), name


@pytest.mark.parametrize("protocol", ["secagg", "secagg-plus-flower", "ckks"])
@pytest.mark.parametrize("names", [("cosine",), ("cosine", "fedmia-loss", "update-loss")])
def test_updates_of_single_clients_are_not_seen_through_sums(tiny, protocol, names):
    with pytest.raises(InputError, match="cosine needs updates of single clients") as refused:
        preflight(asking(tiny, protocol, *names))
    assert protocol in str(refused.value) and "Name an attack that can as well" in str(refused.value)
    preflight(asking(tiny, protocol, *names, "loss"))


def test_what_is_judged_agrees(tiny, finished):
    """Of a finished run, exactly the attacks that lacked nothing were measured."""
    _, results = finished
    seen = available(tiny)
    for row in results.attacks:
        assert set(ATTACKS[row.attack].needs) <= seen[row.vantage], row.attack
    for row in results.refused:
        assert row.lacks not in seen[row.vantage], row.attack
