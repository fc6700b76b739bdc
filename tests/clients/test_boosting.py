"""A boosted update: so many times as long, in the same direction, and nobody else's."""

import numpy as np
import pytest

from clients.boosting import Boost
from tests.clients.test_update import START, left, sent

pytestmark = pytest.mark.usefixtures("task_identity")
UPDATE = np.array([0.5, -1.0, 0.25, 0.0, 2.0, -0.125], np.float32)
BOOST = Boost(clients=frozenset({3, 5}), factor=8.0)


def test_only_a_tampering_client_s_update_grows():
    np.testing.assert_allclose(left(UPDATE, BOOST, client=3), 8 * UPDATE, rtol=1e-5)
    np.testing.assert_allclose(left(UPDATE, BOOST, client=4), UPDATE, rtol=1e-5)


def test_what_it_reports_stays_and_its_personal_model_is_left_alone():
    message, reply = sent(UPDATE, BOOST, client=5)
    assert dict(reply.content["metrics"]) == {"num-examples": 25, "loss": 0.7}
    np.testing.assert_allclose(left(UPDATE, BOOST, client=5, kind="train.personalize"), UPDATE, rtol=1e-5)
    assert message.content["arrays"].keys() == reply.content["arrays"].keys() and len(START) == 6


def test_boosted_by_the_number_of_clients_the_model_replaces_the_mean():
    """Bagdasaryan et al. 2020, equation 3: the others stand still, one of four sends X, and the mean is X."""
    sent_updates = [left(UPDATE, Boost(clients=frozenset({0}), factor=4.0), client=0), *np.zeros((3, 6))]
    np.testing.assert_allclose(np.mean(sent_updates, axis=0), UPDATE, rtol=1e-5)
