"""Who was a member of what: a coin counts against a model only if its client was in a round that released something."""

import json
from dataclasses import replace

import numpy as np
import pytest

from attacks.observation import VantageLacksError
from sim import transcript
from sim.beyond import beyond_membership
from sim.folder import RunFolder
from sim.given import federation_of
from sim.judge import judge, truth_of
from sim.observe import observe
from sim.paired import comparisons
from sim.participation import who_took_part
from sim.prepare import prepare


def only_released_with(folder, clients):
    """Edit a transcript so that only these clients were in its one round that released anything."""
    file = folder.transcript / transcript.ROUNDS
    first, second, third = map(json.loads, file.read_text().splitlines())
    first |= {"clients": list(clients), "dropped": {"3": "no reply"}}
    second |= {"clients": [], "refused": "2 updates, fewer than 3"}
    third |= {"clients": [3], "refused": "1 update, fewer than 3"}
    file.write_text("".join(json.dumps(line) + "\n" for line in (first, second, third)))


@pytest.fixture
def part(tiny, copied, quiet):
    """The finished run as if clients 0 and 2 alone had been in a released round: its targets, and every row judged."""
    folder = RunFolder(copied)
    only_released_with(folder, (0, 2))
    targets = observe(tiny, folder, prepare(tiny, folder, quiet))
    truth = truth_of(federation_of(tiny))
    return folder, targets, truth, judge(tiny, targets, truth, quiet)[0]


def test_members_of_the_global_model_are_those_of_clients_in_a_released_round(tiny, part):
    _, targets, truth, judged = part
    counted, coins = np.isin(truth.client, (0, 2)), truth.member
    for each in judged:
        expected = coins if each.result.target == "personal" else coins & counted
        assert np.array_equal(each.truth.member, expected), each.result
        assert each.result.members == expected.sum() and each.result.nonmembers == (~expected).sum()
    assert {each.result.target for each in judged} == {"global", "personal"}
    assert {t.trained for t in targets if t.target == "global"} == {(0, 2)}
    pairs = comparisons(tiny, judged)
    assert {pair.question for pair in pairs} == {"personalising", "rounding", "server"}


def test_attacks_on_more_than_membership_are_about_clients_that_trained(tiny, part, quiet):
    folder, targets, truth, _ = part
    scenario = tiny.model_copy(
        update={"attacks": tiny.attacks.model_copy(update={"names": ("source-inference", "class-inversion")})}
    )
    found = beyond_membership(scenario, folder, federation_of(tiny), targets, quiet)
    assert found.sources[0].records == (truth.member & np.isin(truth.client, (0, 2))).sum() and not found.refused
    nobody = [replace(target, trained=()) if target.target == "global" else target for target in targets]
    lost = beyond_membership(scenario, folder, federation_of(tiny), nobody, quiet)
    assert len(lost.refused) == 2 and "no round released anything" in lost.refused[0].reason


def test_nobody_is_a_member_where_no_round_released_anything(tiny, part, quiet):
    """Personal models are attacked all the same: each client made its own from its own members."""
    _, targets, truth, _ = part
    nobody = [replace(target, trained=()) if target.target == "global" else target for target in targets]
    judged, refused = judge(tiny, nobody, truth, quiet)
    assert {each.result.target for each in judged} == {"personal"}
    assert any("the model has no members among their records" in each.reason for each in refused)


def test_a_person_took_part_if_a_client_of_theirs_was_in_a_released_round(tiny, part):
    """Ten people, of whom five were sampled: the other five did not take part, newcomers or not."""
    _, targets, _, _ = part
    federation, target = federation_of(tiny), next(t for t in targets if t.vantage == "global-user")
    many = tuple(
        replace(federation.clients[number % 4], client=number, person=f"person {number}") for number in range(10)
    )
    ten = replace(federation, clients=many, participants=10)
    (first, *_) = who_took_part(tiny, [replace(target, trained=(0, 2, 4, 6, 8))], ten)
    assert (first.participants, first.newcomers) == (5, 5)
    with pytest.raises(VantageLacksError, match="there are 10 and 0"):
        list(who_took_part(tiny, [replace(target, trained=tuple(range(10)))], ten))
