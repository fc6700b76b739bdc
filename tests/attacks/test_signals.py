import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from attacks import signals

logits = arrays(np.float64, (7, 4), elements=st.floats(-15, 15))
labels = np.array([0, 1, 2, 3, 0, 1, 2])


@settings(deadline=None)
@given(logits)
def test_logits_and_their_probabilities_say_the_same(z):
    for signal in (signals.loss, signals.true_label_probability, signals.scaled_confidence):
        np.testing.assert_allclose(
            signal(z, labels), signal(softmax(z, axis=1), labels, "probabilities"), rtol=1e-6, atol=1e-9
        )


@settings(deadline=None)
@given(arrays(np.float64, (7, 4), elements=st.floats(-5, 5)))
def test_definitions(z):
    log_p = log_softmax(z, axis=1)[np.arange(7), labels]
    np.testing.assert_allclose(signals.loss(z, labels), -log_p)
    np.testing.assert_allclose(signals.true_label_probability(z, labels), np.exp(log_p))
    np.testing.assert_allclose(signals.scaled_confidence(z, labels), log_p - np.log(-np.expm1(log_p)), atol=1e-9)


def test_float32_probabilities_of_zero_stay_finite():
    answers = np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    for signal in (signals.loss, signals.scaled_confidence):
        assert np.isfinite(signal(answers, np.array([0, 1]), "probabilities")).all()


@pytest.mark.parametrize(
    ("answers", "labels", "message"),
    [
        (np.zeros((2, 3)), np.array([0]), r"\(2, 3\) for 1 labels"),
        (np.zeros((1, 1)), np.array([0]), "two columns"),
        (np.zeros((2, 3)), np.array([0, 3]), "from 0 to 3, the answers have 3 classes"),
    ],
)
def test_answers_that_do_not_fit_the_labels_are_refused(answers, labels, message):
    with pytest.raises(ValueError, match=message):
        signals.loss(answers, labels)


def test_losses_of_very_sure_answers_keep_their_order():
    """At a margin of 40 the textbook form gives 0 in float64, and thousands of members tie with non-members."""
    z = np.array([[40.0, 0.0], [50.0, 0.0], [300.0, 0.0]])
    losses = signals.loss(z, np.zeros(3, dtype=np.int64))
    np.testing.assert_allclose(losses, np.exp([-40.0, -50.0, -300.0]), rtol=1e-12)
