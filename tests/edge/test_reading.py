"""What can be read out of an int8 file, against the model and the records that it was made from."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from edge.artifact import ArtifactError
from edge.export import export
from edge.reading import parameters, read

PLAIN = {
    "mlp": ((2, 6, 6), lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 4))),
    "cnn": (
        (2, 8, 8),
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 4)
        ),
    ),
    "windows": (
        (3, 32),
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 6, stride=2, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)
        ),
    ),
    "depthwise": (
        (1, 16, 16),
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        ),
    ),
}


@pytest.fixture(params=PLAIN)
def plain(request, seeded):
    """A network whose biases are not zero, its file, and the calibration records."""
    shape, build = PLAIN[request.param]
    model, rng = seeded(build()), np.random.default_rng(4)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = torch.tensor(rng.normal(size=parameter.shape), dtype=torch.float32)
    records = rng.normal(size=(20, *shape)).astype(np.float32)
    return model, export(model, records), records


def test_weights_come_back_within_half_a_step(plain):
    model, blob, _ = plain
    found, true = parameters(read(blob), model), parameters_to_vector(model.parameters()).detach().numpy()
    assert found.shape == true.shape
    at = 0
    for weights in model.parameters():
        part = slice(at, at + weights.numel())
        largest = np.abs(true[part]).max()
        assert np.abs(found[part] - true[part]).max() <= 0.5 * largest / 127 + 1e-3 * (weights.ndim == 1)
        at += weights.numel()


@pytest.mark.parametrize("name", ["group-norm", "one-group"])
def test_weights_of_normalised_networks_come_back(name, trained, exported):
    model = trained(name).model
    found, true = parameters(read(exported(name)), model), parameters_to_vector(model.parameters()).detach().numpy()
    assert np.abs(found - true).max() < 0.01


def test_folded_normalisation_is_refused(trained, exported):
    with pytest.raises(ArtifactError, match=r"no weights for '1.weight' of shape \(8,\): it is of another arch"):
        parameters(read(exported("cnn")), trained("cnn").model)


def test_the_float_network_computes_what_torch_does_with_these_weights(plain):
    model, blob, records = plain
    reading = read(blob)
    vector_to_parameters(torch.from_numpy(parameters(reading, model)), model.parameters())
    low, high = reading.extremes(records)
    with torch.no_grad():
        logits = model(torch.from_numpy(records)).numpy()
    np.testing.assert_allclose(low[:, -1], logits.min(axis=1), atol=1e-4)
    np.testing.assert_allclose(high[:, -1], logits.max(axis=1), atol=1e-4)
    np.testing.assert_array_equal(low[:, 0], records.reshape(20, -1).min(axis=1))
    np.testing.assert_array_equal(high[:, 0], records.reshape(20, -1).max(axis=1))


def test_the_width_of_the_input_s_range_is_the_calibration_records_to_seven_digits(plain):
    _, blob, records = plain
    width = read(blob).ranges[0].high - read(blob).ranges[0].low
    assert width == pytest.approx(float(records.max()) - float(records.min()), rel=2e-7)


@pytest.mark.parametrize("name", ["mlp", "cnn", "windows", "depthwise", "residual", "group-norm", "one-group"])
def test_ranges_are_what_the_calibration_records_reached(name, trained, exported):
    """Within one per cent of the width: the float network's weights have been rounded, and so has the zero point."""
    reading = read(exported(name))
    low, high = reading.extremes(trained(name).x[:200])
    assert len(reading.ranges) >= 3
    for column, each in enumerate(reading.ranges):
        width = each.high - each.low
        assert max(0.0, high[:, column].max()) == pytest.approx(each.high, abs=0.01 * width), each.name
        assert min(0.0, low[:, column].min()) == pytest.approx(each.low, abs=0.01 * width), each.name


def test_a_softmax_s_range_tells_nothing_and_is_left_out(exported):
    logits, softmax = read(exported("cnn")), read(exported("cnn", "probabilities"))
    assert len(softmax.ranges) == len(logits.ranges)
    assert all(each.scale != 1 / 256 for each in softmax.ranges)


def test_moved_weights_stay_within_half_a_step(plain):
    _, blob, _ = plain
    for constant in read(blob).constants:
        away = np.abs(constant.moved(np.random.default_rng(0)) - constant.real)
        slack = 1e-6 * np.abs(constant.real).max()
        assert 0 < away.max() <= constant.scale.max() / 2 + slack


def test_moved_weights_move_the_activations_a_little(plain):
    _, blob, records = plain
    reading = read(blob)
    still, moved = reading.extremes(records), reading.extremes(records, np.random.default_rng(0))
    np.testing.assert_array_equal(still[1][:, 0], moved[1][:, 0])  # no weight touches the input
    error = np.abs(moved[1][:, -1] - still[1][:, -1]).mean() / (reading.ranges[-1].high - reading.ranges[-1].low)
    assert 1e-4 < error < 0.02


def test_what_is_no_model_is_refused():
    with pytest.raises(ArtifactError, match="not a TFLite file"):
        read(b"a long enough line of text")
