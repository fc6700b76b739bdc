"""DP-SGD on a client: steps by hand, sensitivity, noise, sampling; nothing observable depends on how many records."""

import copy
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from clients.dp_sgd import UnsafeForPrivacyError, train_privately, unsafe
from clients.models import CLASSIFIERS, ModelConfig, build_model
from clients.privacy import RecordPrivacyConfig
from clients.training import DivergedError, TrainingConfig
from clients.weights import load_vector, to_vector
from tests.tolerances import roundoff

SHAPES = {"mlp": (12,), "cnn": (1, 8, 8), "cnn1d": (3, 16), "ds-cnn": (1, 8, 8), "resnet8": (1, 8, 8)}
SHAPES["mobilenet-v1-0.25"] = (1, 32, 32)
NO_NOISE = 1e-9  # too small to be seen in float32
ENGINES = ["hooks", "ghost"]


def privacy(**kwargs):
    return RecordPrivacyConfig(**({"noise_multiplier": 1.0, "sampling_rate": 1.0} | kwargs))


def build(name="mlp", norm="none"):
    return build_model(ModelConfig(name=name, norm=norm, width=8), SHAPES[name], 3, torch.Generator().manual_seed(0))


def records(shape, count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *shape)).astype(np.float32), rng.integers(3, size=count)


def linear(features, classes=2):
    return load_vector(nn.Linear(features, classes, bias=False), np.zeros(features * classes, np.float32))


def moved(model, x, y, config, setting, noise_multiplier=NO_NOISE, seed=0):
    """Weights after minus weights before."""
    before = to_vector(model)
    train_privately(model, x, y, config, setting, noise_multiplier, np.random.default_rng(seed))
    return to_vector(model) - before


def gradient(model, x, y):
    """Of one record, by plain autograd."""
    model.zero_grad()
    cross_entropy(model(torch.tensor(x[None])), torch.tensor(y)[None]).backward()
    return np.concatenate([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("engine", ENGINES)
def test_one_step_by_hand(engine):
    """With zero weights and two classes both probabilities are a half, so the gradients are (±x/2, ∓x/2)."""
    x, y = np.array([[3.0, 4.0], [0.6, -0.8]], dtype=np.float32), np.array([0, 1])
    change = moved(
        linear(2), x, y, TrainingConfig(batch_size=5, learning_rate=0.5), privacy(clipping_norm=1.0, gradients=engine)
    )
    long = np.array([-3.0, -4.0, 3.0, 4.0]) / 50**0.5  # norm sqrt(50)/2, clipped to 1
    short = np.array([0.3, -0.4, -0.3, 0.4])  # norm sqrt(2)/2, left alone
    np.testing.assert_allclose(change, -0.5 * (long + short) / 5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_model_sums_clipped_gradients_of_single_records(name, norm, engine):
    """Against plain autograd, one record at a time, with about half of the records clipped."""
    model, (x, y) = build(name, norm), records(SHAPES[name], 9)
    gradients = np.stack([gradient(model, *record) for record in zip(x, y, strict=True)])
    norms = np.linalg.norm(gradients, axis=1)
    bound = float(np.median(norms))
    clipped = (gradients * np.minimum(1, bound / norms)[:, None]).sum(axis=0)
    config = TrainingConfig(batch_size=4, learning_rate=1.0)
    change = moved(model, x, y, config, privacy(clipping_norm=bound, gradients=engine))
    size = max(1.0, np.abs(gradients).max())  # the weights, whose difference the change is, are of size 1
    np.testing.assert_allclose(change, -clipped / 4, atol=roundoff(x[0].size * len(x), size))


@pytest.mark.parametrize("clipping", ["fixed", "adaptive"])
@pytest.mark.parametrize("name", ["mlp", "cnn1d"])
def test_ghost_clipping_gives_the_same_weights_as_hooks(name, clipping):
    (x, y), config = records(SHAPES[name], 20), TrainingConfig(epochs=2, batch_size=4, momentum=0.9, weight_decay=0.01)
    ghost, hooks = (
        moved(build(name), x, y, config, privacy(sampling_rate=0.2, gradients=engine, clipping=clipping), 0.5)
        for engine in ("ghost", "hooks")
    )
    np.testing.assert_allclose(ghost, hooks, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 8),
    st.floats(1e-3, 1e3),
    st.floats(-3, 6),
    st.sampled_from(ENGINES),
    st.sampled_from(["mlp", "cnn1d"]),
)
def test_one_record_more_moves_the_weights_by_no_more_than_the_clipping_norm(seed, count, bound, size, engine, name):
    """Both runs draw the same noise. Tolerance: float32's rounding of the weights."""
    x, y = records(SHAPES[name], count + 1, seed)
    x[-1] *= 10**size
    config, setting = TrainingConfig(batch_size=3, learning_rate=0.3), privacy(clipping_norm=bound, gradients=engine)
    larger = moved(build(name), x, y, config, setting, seed=seed)
    smaller = moved(build(name), x[:-1], y[:-1], config, setting, seed=seed)
    assert np.linalg.norm(larger - smaller) <= 0.3 * bound / 3 * (1 + 1e-3) + 1e-5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_the_noise_is_the_same_however_many_records_there_are(count, engine):
    """Records of zeros have no gradient, so all that moves 20,000 weights is noise: its deviation is 0.5 % sure."""
    x, y = np.zeros((count, 5000), dtype=np.float32), np.zeros(count, dtype=np.int64)
    config = TrainingConfig(batch_size=10, learning_rate=0.5)
    setting = privacy(clipping_norm=0.2, gradients=engine)
    change = moved(linear(5000, 4), x, y, config, setting, 3.0)
    assert change.std() == pytest.approx(0.5 * 3.0 * 0.2 / 10, rel=0.025)
    assert abs(change.mean()) < 5 * change.std() / 20_000**0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_empty_batches_move_every_weight_by_noise(name, engine):
    change = moved(
        build(name, "group"), *records(SHAPES[name], 0), TrainingConfig(), privacy(sampling_rate=0.3, gradients=engine)
    )
    assert np.isfinite(change).all()
    change = moved(build(name), *records(SHAPES[name], 2), TrainingConfig(), privacy(sampling_rate=1e-2), 1.0)
    assert (change != 0).all()


def test_weights_follow_from_the_generator_alone():
    (x, y), config, setting = records((12,), 30), TrainingConfig(epochs=2), privacy(sampling_rate=0.2)
    before = torch.get_rng_state()
    first = moved(build(), x, y, config, setting, 1.0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002  # the global state is the point
    assert np.array_equal(first, moved(build(), x, y, config, setting, 1.0))
    assert not np.array_equal(first, moved(build(), x, y, config, setting, 1.0, seed=1))


@pytest.mark.parametrize(("epochs", "rate", "count"), [(3, 0.1, 30), (2, 1.0, 2), (4, 0.7, 4), (5, 0.3, 15)])
def test_steps_are_those_of_the_plan_not_of_the_data(epochs, rate, count):
    config, setting = TrainingConfig(epochs=epochs), privacy(sampling_rate=rate)
    assert setting.steps(config.epochs) == count
    for number in (0, 7, 41):
        x, y = records((12,), number)
        assert train_privately(build(), x, y, config, setting, 1.0, np.random.default_rng(0)) == count


def test_every_record_is_drawn_independently_with_the_sampling_rate():
    """600 steps over 200 records at rate 0.1: 20 ± 4.24 records a step; a fixed batch size would have no deviation."""
    batches = []

    class Spy(nn.Module):
        def forward(self, x):
            batches.append(x[:, 0].int().tolist())
            return x

    x = np.zeros((200, 2), dtype=np.float32)
    x[:, 0] = np.arange(200)
    model, config = nn.Sequential(Spy(), linear(2)), TrainingConfig(epochs=60, learning_rate=1e-6)
    moved(model, x, np.zeros(200, dtype=np.int64), config, privacy(sampling_rate=0.1))
    sizes = np.array([len(batch) for batch in batches])
    assert len(sizes) == 600 and all(len(set(batch)) == len(batch) for batch in batches)
    assert sizes.mean() == pytest.approx(20, abs=4 * (18 / 600) ** 0.5)
    assert sizes.var() == pytest.approx(18, abs=4 * 18 * (2 / 600) ** 0.5)
    uses = np.bincount(np.concatenate([np.array(batch, dtype=int) for batch in batches]), minlength=200)
    assert uses.var() == pytest.approx(54, abs=4 * 54 * (2 / 200) ** 0.5)  # binomial too: 600 · 0.1 · 0.9
    assert abs(np.corrcoef(sizes[1:], sizes[:-1])[0, 1]) < 4 / 600**0.5


def test_the_optimiser_is_that_of_the_training_settings():
    """The first step of Adam has the size of the learning rate in every weight, whatever the noise."""
    x, y = records((12,), 10)
    change = moved(build(), x, y, TrainingConfig(optimizer="adam", learning_rate=0.01), privacy(), 1.0)
    np.testing.assert_allclose(np.abs(change), 0.01, rtol=1e-3)


def followed(bound, size, count, batch_size, rounds, quantile, rate):
    """Sum of the clipped norms over the rounds, if every record's gradient has norm `size`."""
    total = 0.0
    for _ in range(rounds):
        total += count * min(bound, size)
        share = count * (0.5 if size <= bound else -0.5) / batch_size + 0.5
        bound = min(max(bound * np.exp(-rate * (share - quantile)), 1e-6), 1e6)
    return total


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize(("bound", "size", "count"), [(1.0, 10.0, 2), (1.05, 1.0, 3), (1.0, 10.0, 0), (1e6, 1e12, 4)])
def test_the_clipping_norm_follows_the_quantile(bound, size, count, engine):
    """Records with equal gradients, all over the norm or all under it, and a step too small to change them."""
    x = np.full((count, 1), size * 2**0.5, dtype=np.float32)  # the gradient is ±x/2 in two weights
    rate = 1e-5 / max(size, 1) / min(bound, size)  # smaller than a scenario may ask for
    config = TrainingConfig.model_construct(epochs=6, batch_size=4, learning_rate=rate)
    setting = privacy(
        clipping="adaptive", clipping_norm=bound, quantile=0.6, clipping_rate=0.5, count_noise=1e-3, gradients=engine
    )
    change = moved(linear(1), x, np.zeros(count, dtype=np.int64), config, setting)
    total = followed(bound, size, count, 4, 6, 0.6, 0.5)
    assert np.linalg.norm(change) * 4 / config.learning_rate == pytest.approx(total, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("given_noise", "count_noise"), [(None, 2.0), (1.5, 1.5)])
def test_adaptive_clipping_pays_for_its_count_with_noise(given_noise, count_noise):
    """z_delta = (z^-2 - (2 count_noise)^-2)^-1/2 with z = 2, and a count noise of no less than z if none is given."""
    x, y = np.zeros((0, 5000), dtype=np.float32), np.zeros(0, dtype=np.int64)
    setting = privacy(clipping="adaptive", count_noise=given_noise)
    change = moved(linear(5000, 4), x, y, TrainingConfig(batch_size=10, learning_rate=1.0), setting, 2.0)
    assert change.std() == pytest.approx((2.0**-2 - (2 * count_noise) ** -2) ** -0.5 / 10, rel=0.025)


def test_the_count_s_noise_moves_the_clipping_norm():
    """After one empty step the norm's logarithm is off by rate · noise / batch size; the second step's noise shows it.

    100 runs; the deviation of a logarithm over runs is 7 % sure, and 0.35 % of it comes from measuring the norm.
    """
    x, y = np.zeros((0, 5000), dtype=np.float32), np.zeros(0, dtype=np.int64)
    setting = privacy(clipping="adaptive", count_noise=8.0, clipping_rate=1.0, quantile=0.5)
    config = TrainingConfig(epochs=2, batch_size=20, learning_rate=1.0)
    variances = np.array([moved(linear(5000, 2), x, y, config, setting, 1.0, seed).var() for seed in range(100)])
    ratio = variances * 20**2 / (1 / (1 - 1 / 256)) - 1  # the first step's variance is 1; this is the second's
    assert np.log(ratio).std() / 2 == pytest.approx(8.0 / 20, rel=0.28)


def test_a_wild_count_does_not_take_the_clipping_norm_out_of_bounds():
    setting = privacy(clipping="adaptive", count_noise=1e6)
    change = moved(linear(50), *records((50,), 0), TrainingConfig(epochs=3, batch_size=1), setting, 1.0)
    assert np.isfinite(change).all() and (change != 0).all()


def test_too_little_noise_on_the_count_is_refused():
    setting = privacy(clipping="adaptive", count_noise=0.4)
    with pytest.raises(ValueError, match="count"):
        moved(build(), *records((12,), 3), TrainingConfig(), setting, 1.0)


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        return x - self.mean


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.BatchNorm1d(4), "GroupNorm"),
        (nn.BatchNorm1d(4, affine=False), "GroupNorm"),  # Opacus lets both of these pass
        (nn.BatchNorm1d(4, affine=False, track_running_stats=False), "GroupNorm"),
        (nn.BatchNorm1d(4).requires_grad_(False), "GroupNorm"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "track_running_stats=False"),
        (nn.LSTM(4, 4), "DPLSTM"),
        (Shift(), "mean"),
    ],
)
def test_layers_that_dp_sgd_cannot_vouch_for_are_refused_with_their_mend(layer, says):
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 3))
    (fault,) = unsafe(model)
    assert fault.startswith(f"layer 1 ({type(layer).__name__}): ") and says in fault
    with pytest.raises(UnsafeForPrivacyError, match=r"layer 1 \("):
        moved(model, *records((4,), 3), TrainingConfig(), privacy())


def test_all_faults_are_named_at_once():
    assert len(unsafe(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LSTM(4, 4)))) == 3


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_our_own_models_are_safe(name, norm):
    assert unsafe(build(name, norm)) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_comes_back_as_it_was_but_for_its_weights(engine):
    model, fresh = build("cnn1d"), build("cnn1d")
    moved(model, *records(SHAPES["cnn1d"], 8), TrainingConfig(), privacy(sampling_rate=0.5, gradients=engine), 1.0)
    assert not any(part.training for part in model.modules())
    assert list(model.state_dict()) == list(fresh.state_dict())
    for part, same in zip(model.modules(), fresh.modules(), strict=True):
        assert vars(part).keys() == vars(same).keys()
        assert not part._forward_hooks and not part._backward_hooks and not part._forward_pre_hooks
    assert all(p.grad is None and not vars(p) for p in model.parameters())
    x = torch.zeros(1, *SHAPES["cnn1d"])
    assert torch.equal(copy.deepcopy(model)(x), torch.export.export(model, (x,)).module()(x))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_records_that_are_not_numbers_count_as_records_without_a_gradient(engine, odd):
    """A failure would tell that there is such a record, and NaN passes every clipping."""
    (x, y), model, rate = records((12,), 5), build(), {"sampling_rate": 1.0, "gradients": engine}
    x[2] = odd
    found = moved(model, x, y, TrainingConfig(), privacy(**rate), 1.0)
    without = moved(build(), np.delete(x, 2, 0), np.delete(y, 2), TrainingConfig(), privacy(**rate), 1.0)
    np.testing.assert_allclose(found, without, atol=1e-6)


def test_weights_that_noise_makes_infinite_are_refused():
    """What clipping and noise left of the records has diverged, so this tells nothing that is not accounted for."""
    (x, y), model = records((12,), 5), build()
    before = to_vector(model)
    with pytest.raises(DivergedError, match="choose a smaller one"):
        moved(model, x, y, TrainingConfig(learning_rate=10.0), privacy(clipping_norm=1e6), 1e35)
    assert np.array_equal(to_vector(model), before)


def test_training_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved(build(), *records((12,), 5), TrainingConfig(), privacy())


def test_opacus_leaves_no_handler_at_the_root_logger():
    """It would print Flower's lines twice."""
    program = "import clients.dp_sgd, logging; raise SystemExit(len(logging.root.handlers))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
