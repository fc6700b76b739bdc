"""Whole federations with tampering clients: what works against a mean and not against a robust rule."""

import io

import numpy as np
import pytest
from rich.console import Console

from server.robust import RULES
from sim.data.federation import toss
from sim.engines import ENGINES
from sim.errors import InputError
from sim.federate import federate
from sim.findings import findings
from sim.folder import RunFolder
from sim.given import federation_of
from sim.preflight import preflight
from sim.progress import Progress
from sim.run import run
from sim.scenario import load_scenario
from sim.table import render
from sim.tampering import members_of, scored, tampering_clients, targeted, trials, trigger
from sim.transcript import ServerRounds, summaries
from sim.twin import answers, twins

NINE = """
name = "nine"
seed = 3
[data]
source = "digits"
partition = "iid"
clients = 9
records_per_client = 80
[population]
people = 2
records = 60
[model]
name = "mlp"
width = 16
[federation]
rounds = 12
tampering_allowed = 2
[training]
optimizer = "adam"
epochs = 2
learning_rate = 0.01
[attacks]
names = ["loss"]
references = 1
[tampering]
how = "label-flip"
clients = 2
"""


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """The scenario with some settings changed."""
    file = tmp_path_factory.mktemp("nine") / "nine.toml"
    file.write_text(NINE)
    return lambda *sets: load_scenario(file, sets)


@pytest.fixture(scope="module")
def success(nine, tmp_path_factory):
    """Federates, and says how often the global model answers as the tampering clients want, and how often right."""

    def federated(*sets):
        scenario, folder = nine(*sets), RunFolder(tmp_path_factory.mktemp("run"))
        for part in (folder.transcript, folder.models):
            part.mkdir()
        federate(scenario, ENGINES["inprocess"], folder, Progress(Console(file=io.StringIO())))
        held_out = np.concatenate([~client.member for client in scored(scenario).clients])
        answered = answers(scenario, folder)["global"]
        return answered.success.mean(), answered.right[held_out].mean(), folder

    return federated


def test_a_label_flip_works_against_the_mean_and_not_against_robust_rules(success):
    flip = ("tampering.source=8", "tampering.target=1", "tampering.boost=3")
    flipped, right, _ = success(*flip)
    assert flipped > 0.6 and right > 0.7
    for rule, most in (("median", 0.2), ("trimmed-mean", 0.4), ("multi-krum", 0.2)):
        flipped, right, _ = success(*flip, f"federation.combine={rule}")
        assert flipped < most and right > 0.7, rule


def test_a_backdoor_opens_for_the_trigger_alone_and_the_median_shuts_it(success):
    backdoor = ("tampering.how=backdoor", "tampering.boost=4", "tampering.target=3", "tampering.clients=1")
    opened, right, _ = success(*backdoor)
    assert opened > 0.45 and right > 0.7
    opened, right, _ = success(*backdoor, "federation.combine=median")
    assert opened < 0.25 and right > 0.7


def test_a_run_without_tampering_is_the_one_it_was(nine, success, tmp_path):
    """Only tampering clients' updates differ, and only in the first round, before all start from another model."""
    *_, poisoned = success("federation.rounds=1", "tampering.boost=2")
    scenario, plain = nine("federation.rounds=1"), RunFolder(tmp_path)
    for part in (plain.transcript, plain.models):
        part.mkdir()
    federate(twins(scenario)["untampered"], ENGINES["inprocess"], plain, Progress(Console(file=io.StringIO())))
    before, after = ServerRounds(plain.transcript)[0].updates, ServerRounds(poisoned.transcript)[0].updates
    same = {client for client in before if (before[client] == after[client]).all()}
    assert set(before) - same == set(tampering_clients(scenario))


def test_a_round_with_too_few_clients_for_the_rule_changes_nothing(success):
    """Poisson sampling: some rounds have fewer than the five that a median needs against two."""
    *_, folder = success(
        "federation.combine=median",
        "federation.sampling=poisson",
        "federation.participation=0.6",
        "federation.rounds=30",
        "tampering.how=backdoor",
        "training.epochs=1",
    )
    refused = [each for each in summaries(folder.transcript) if each.refused]
    assert refused and all("and median needs 5 to withstand 2 tampering" in each.refused for each in refused)


def test_other_clients_keep_their_records_and_their_coins(nine):
    scenario = nine("tampering.how=truth-serum")
    everyone, tampering = federation_of(scenario), tampering_clients(scenario)
    assert len(tampering) == 2
    assert [c.client for c in scored(scenario).clients] == [n for n in range(9) if n not in tampering]
    for client in everyone.clients:
        if client.client not in tampering:
            x, y = members_of(scenario, client.client)
            np.testing.assert_array_equal(x, client.members[0])
            np.testing.assert_array_equal(y, client.members[1])
            np.testing.assert_array_equal(client.member, toss(len(client), 0.5, scenario.seed, client.client))


def test_truth_serum_plants_copies_of_half_the_others_records_whether_members_or_not(nine):
    scenario = nine("tampering.how=truth-serum", "tampering.copies=3")
    chosen, clients = targeted(scenario), scored(scenario).clients
    x, y = (np.concatenate([getattr(c, part) for c in clients]) for part in ("x", "y"))
    member = np.concatenate([c.member for c in clients])
    assert abs(chosen.mean() - 0.5) < 0.07 and abs(chosen[member].mean() - chosen[~member].mean()) < 0.15
    planted = [members_of(scenario, number) for number in tampering_clients(scenario)]
    own = [len(federation_of(scenario).clients[number].members[1]) for number in tampering_clients(scenario)]
    copies = np.concatenate([part[0][mine:] for part, mine in zip(planted, own, strict=True)])
    labels = np.concatenate([part[1][mine:] for part, mine in zip(planted, own, strict=True)])
    for row, label, hit in zip(x, y, chosen, strict=True):
        same = (copies == row).all(axis=(1, 2, 3))
        assert same.sum() == (3 if hit else 0) and (labels[same] != label).all()


def test_trials_are_held_out_records_of_other_classes(nine):
    scenario = nine("tampering.how=backdoor", "tampering.target=4")
    for trial, client in zip(trials(scenario), scored(scenario).clients, strict=True):
        x, y = client.held_out
        assert len(trial.wanted) == (y != 4).sum() and (trial.wanted == 4).all()
        np.testing.assert_array_equal(trial.x, trigger(scenario).stamped(x[y != 4]))
    flips = trials(nine("tampering.source=1", "tampering.target=7"))
    assert [len(t.wanted) for t in flips] == [int((c.held_out[1] == 1).sum()) for c in scored(scenario).clients]


@pytest.mark.slow
def test_truth_serum_end_to_end(nine, quiet, tmp_path):
    """Results, report, table and findings of a whole run, with all the figures they promise."""
    folder, results = run(
        nine(
            "tampering.how=truth-serum",
            "tampering.clients=1",
            "data.clients=5",
            "federation.rounds=2",
            "federation.combine=trimmed-mean",
        ),
        "inprocess",
        tmp_path,
        quiet,
    )
    found = results.tampering
    assert found.how == "truth-serum" and len(found.clients) == 1 and found.combine == "trimmed-mean"
    assert [(o.target, o.precision) for o in found.outcomes] == [
        ("global", "float32"),
        ("global", "int8"),
        ("personal", "float32"),
        ("personal", "int8"),
    ]
    assert all((o.accuracy_change is None) == (o.precision == "int8") for o in found.outcomes)
    assert len(found.amplification) == len(results.attacks)
    for row, attack in zip(found.amplification, results.attacks, strict=True):
        assert row.ci[0] <= row.auc_difference <= row.ci[1] and row.records + row.others == attack.members + (
            attack.nonmembers
        )
    assert [c.client for c in results.clients] == [n for n in range(5) if n not in found.clients]
    assert results.data.clients == 5
    assert results.utility.global_.accuracy == pytest.approx(found.outcomes[0].accuracy)
    page = folder.report.read_text()
    assert "Tramèr" in page and "truth serum" in page and "each weight's mean without" in page.replace("&#39;", "'")
    assert any("Tampering" in sentence for sentence in findings(results))
    said = io.StringIO()
    render(results, Console(file=said, width=100))
    assert "Truth serum: is the membership of targeted records easier to tell?" in said.getvalue()


FAULTS = {
    ("federation.combine=krum", "aggregation.protocol=secagg"): (
        'federation.combine = "krum" with aggregation.protocol = "secagg": the rule compares single updates',
    ),
    (
        "federation.combine=median",
        "privacy.client.where=central",
        "privacy.client.noise_multiplier=1",
        "aggregation.protocol=ckks",
    ): (
        'federation.combine = "median" with privacy.client.where = "central"',
        'federation.combine = "median" with aggregation.protocol = "ckks"',
    ),
    ("federation.combine=bulyan",): (
        'federation.combine = "bulyan" with tampering_allowed = 2: it needs 11 clients in a round, and 9 are planned',
        "Lower federation.tampering_allowed",
    ),
    ("federation.combine=krum", "federation.participation=0.6"): ("it needs 7 clients in a round, and 5 are planned",),
    ("tampering.source=12", "tampering.target=10"): (
        "tampering.source = 12: the data has 10 classes; choose one from 0 to 9",
        "tampering.target = 10: the data has 10 classes",
    ),
    ("tampering.clients=8",): ("tampering.clients = 8: of 9 clients too few are left", "Lower it to 7 or less"),
    ("data.partition=shards", "tampering.clients=1", "tampering.source=5"): (
        "tampering.source = 5: no tampering client holds a record of that class to flip. Choose one of",
    ),
}


@pytest.mark.parametrize("sets", FAULTS)
def test_what_does_not_fit_is_refused_before_any_work(nine, sets):
    with pytest.raises(InputError) as refused:
        preflight(nine(*sets))
    for part in FAULTS[sets]:
        assert part in str(refused.value)


def test_a_wrong_word_is_answered_with_the_right_ones(nine):
    with pytest.raises(InputError) as refused:
        nine("tampering.how=label-flop", "federation.combine=medain", "tampering.boost=0.5", "tampering.copy=3")
    said = str(refused.value)
    assert "4 things to mend" in said
    assert 'tampering.how = "label-flop"' in said and "Did you mean label-flip?" in said
    assert 'federation.combine = "medain"' in said and "Did you mean median?" in said
    assert "tampering.boost = 0.5: should be greater than or equal to 1" in said
    assert "tampering.copy: unknown key. Did you mean copies?" in said


def test_local_noise_goes_with_every_rule(nine):
    """What a rule makes of updates that are private already is private, too."""
    for rule in RULES.keys() - {"bulyan"}:
        preflight(
            nine(
                f"federation.combine={rule}",
                "privacy.client.where=local",
                "privacy.client.noise_multiplier=3",
                "aggregation.protocol=none",
            )
        )
