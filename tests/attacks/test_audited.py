"""What attacks of an audit keep to, beside those of the registry: on models that answer with numbers, and on pairs."""

from dataclasses import replace

import numpy as np
import pytest

from attacks.attack import carry_out
from attacks.audited import AUDITED
from attacks.errors import log_error
from attacks.observation import Observation, Oracle, Records, Reference
from attacks.registry import ATTACKS
from sim.score import auc

SIDE, OWN, NUMBERS = 200, 300, 12
OF_NUMBERS = [name for name in AUDITED if "error" in name]
OF_CLASSES = [name for name in AUDITED if "error" not in name]


def model(known, seed, noise=0.5):
    """Answers its target, less well where it has not learnt it; the same record always gets the same answer."""

    def answer(x):
        rng = [np.random.default_rng([seed, int(abs(row).sum() * 1e6)]).normal(size=NUMBERS) for row in x]
        easy = np.array([tuple(row) in known for row in x])
        hard = 1 + 2 * np.abs(x[:, :1])  # some records are harder than others, for every model
        return (x + noise * np.where(easy[:, None], 0.7, 1.0) * hard * np.array(rng)).astype(np.float32)

    return answer


def world(seed, leaks):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * SIDE + OWN, NUMBERS)).astype(np.float32)
    candidates, own = (
        Records(x[: 2 * SIDE], x[: 2 * SIDE].astype(float)),
        Records(x[2 * SIDE :], x[2 * SIDE :].astype(float)),
    )
    member = rng.permutation(2 * SIDE) < SIDE
    known = {tuple(row) for row in x[: 2 * SIDE][member]} if leaks else set()
    half = rng.random(OWN) < 0.5
    return (
        Observation(
            vantage="query",
            candidates=candidates,
            population=own,
            oracle=Oracle(model(known, 1)),
            before=Oracle(model(known, 2)),
            references=tuple(
                Reference(model({tuple(row) for row in own.x[each]}, seed), each)
                for seed, each in ((3, half), (4, ~half))
            ),
        ),
        member,
    )


def classes(seed, leaks):
    """The same, where the numbers are logits and the largest is the label."""
    seen, member = world(seed, leaks)

    def labelled(records):
        return Records(records.x, records.x.argmax(axis=1))

    return replace(seen, candidates=labelled(seen.candidates), population=labelled(seen.population)), member


def worlds(name):
    return world if name in OF_NUMBERS else classes


def test_no_attack_has_two_names():
    assert not set(ATTACKS) & set(AUDITED)
    assert all(name == attack.name for name, attack in AUDITED.items())


@pytest.mark.parametrize("name", AUDITED)
def test_a_guess_is_finite_repeatable_and_scores_the_attackers_own_records(name):
    seen, _ = worlds(name)(0, leaks=True)
    first, again = (carry_out(AUDITED[name], seen, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.scores.shape == (2 * SIDE,)
    assert first.population_scores.shape == (OWN,)
    assert first.queries_per_record > 0


# What compressing forgets is not in this world; nor are noisy copies, which tests/sim/audit has of real models.
ELSEWHERE = ("pair-difference", "pair-ratio", "pair-error-ratio", "label-copies")


@pytest.mark.parametrize("name", [name for name in AUDITED if name not in ELSEWHERE])
def test_members_are_found_where_there_are_any(name):
    seen, member = worlds(name)(1, leaks=True)
    assert auc(carry_out(AUDITED[name], seen, np.random.default_rng(5)).scores, member) > 0.55


@pytest.mark.parametrize("name", AUDITED)
def test_nobody_is_found_where_nobody_was_trained_on(name):
    found = []
    for seed in range(2 if name == "label-copies" else 4):
        seen, member = worlds(name)(10 + seed, leaks=False)
        found.append(auc(carry_out(AUDITED[name], seen, np.random.default_rng(5)).scores, member))
    assert abs(np.mean(found) - 0.5) < 0.05


def test_references_tell_what_is_hard():
    seen, member = world(2, leaks=True)
    plain, calibrated = (
        auc(carry_out(AUDITED[name], seen, np.random.default_rng(5)).scores, member)
        for name in ("error", "error-calibrated")
    )
    assert calibrated > plain


def test_the_log_error_is_that_of_the_mean_square_with_rounding_added():
    answers, targets = np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([[0.0, 1.0], [2.0, 2.0]])
    np.testing.assert_allclose(log_error(answers, targets, 0.5), np.log([2.5 + 0.25 / 12, 0.25 / 12]))
    assert np.isfinite(log_error(answers, targets)).all()
    with pytest.raises(ValueError, match="the same, please"):
        log_error(answers, targets[:, :1])


def test_all_questions_about_labels_are_put_at_once():
    seen, _ = classes(0, leaks=True)
    asked = []
    oracle = Oracle(lambda x: asked.append(len(x)) or seen.oracle.answer(x))
    carry_out(AUDITED["label-copies"], replace(seen, oracle=oracle, references=()), np.random.default_rng(5))
    assert asked == [17 * (2 * SIDE + OWN)]
