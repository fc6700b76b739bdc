"""The comparison with the float parent, and LiteRT's distance from the device."""

import numpy as np
import pytest
from scipy.special import softmax

from edge.artifact import Artifact
from edge.check import compare
from edge.runtimes import predict, run


def test_a_model_agrees_with_itself(trained, exported):
    artifact, x = Artifact.from_bytes(exported("windows")), trained("windows").fresh
    own = predict(artifact, x)
    found = compare(artifact, x, own)
    assert (found.top1_agreement, found.max_logit_error, found.rows_compared) == (1.0, 0.0, 200)
    np.testing.assert_array_equal(found.device_scores, own)


def test_labels_and_errors_are_counted_against_the_float_logits(trained, exported):
    artifact, x = Artifact.from_bytes(exported("windows")), trained("windows").fresh[:10]
    parent = predict(artifact, x)
    parent[3] = parent[3] - 5.0  # the same label, five logits off
    parent[7] = np.roll(np.sort(parent[7]), parent[7].argmax())  # the largest ends one before where it was
    found = compare(artifact, x, parent)
    assert found.top1_agreement == 0.9
    assert found.max_logit_error == pytest.approx(max(5.0, np.abs(parent[7] - predict(artifact, x)[7]).max()))


def test_litert_is_counted_against_the_device_on_the_same_bytes(trained, exported):
    net, artifact = trained("group-norm"), Artifact.from_bytes(exported("group-norm"))
    inputs = artifact.quantize_input(net.fresh)
    device, litert = run(artifact, inputs, "tflm"), run(artifact, inputs, "litert")
    found = compare(artifact, net.fresh, net.logits)
    assert found.litert_rows_differing == sum(list(a) != list(b) for a, b in zip(device, litert, strict=True)) > 0
    assert found.litert_labels_differing == sum(a.argmax() != b.argmax() for a, b in zip(device, litert, strict=True))


def test_probabilities_are_compared_with_the_parents_softmax(trained, exported):
    net, artifact = trained("cnn"), Artifact.from_bytes(exported("cnn", "probabilities"))
    found = compare(artifact, net.fresh, net.logits)
    expected = np.abs(predict(artifact, net.fresh) - softmax(net.logits, axis=1)).max()
    assert found.max_logit_error == pytest.approx(expected, abs=1e-6)
    assert 0 < found.max_logit_error < 0.15
    assert found.top1_agreement >= 0.97


@pytest.mark.parametrize("logits", [np.zeros((5, 3)), np.zeros((4, 4))])
def test_logits_of_another_shape_are_refused(logits, trained, exported):
    with pytest.raises(ValueError, match=r"5 records .* 4 classes"):
        compare(Artifact.from_bytes(exported("mlp")), trained("mlp").fresh[:5], logits)


def test_no_records_cannot_be_compared(exported):
    with pytest.raises(ValueError, match="0 records"):
        compare(Artifact.from_bytes(exported("mlp")), np.zeros((0, 20)), np.zeros((0, 4)))
