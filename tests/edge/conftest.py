"""Small real networks, trained for a moment on structured data, and readers for the files they become."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edge.export import export


class DepthwiseSeparable(nn.Module):
    """Stride 2 with torch's padding on an even side, where TFLite's SAME pads differently."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU())
        self.point = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.point(self.depth(self.stem(x))).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8 * 4 * 4, 4)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu_(x + self.body(x))  # in place: what the graph must not lose
        return self.head(torch.flatten(F.max_pool2d(x, 2), 1))


def windows(norm: Callable[[int], nn.Module]) -> nn.Module:
    """A one-dimensional CNN for sensor windows."""
    return nn.Sequential(
        nn.Conv1d(3, 16, 5, padding=2),
        norm(16),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 3, padding=1),
        norm(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


NETS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "mlp": (
        (20,),
        lambda: nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4)),
    ),
    "cnn": (
        (2, 8, 8),
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 4),
        ),
    ),
    "windows": ((3, 32), lambda: windows(nn.BatchNorm1d)),
    "depthwise": ((1, 16, 16), DepthwiseSeparable),
    "residual": ((2, 8, 8), Residual),
    "group-norm": ((3, 32), lambda: windows(lambda channels: nn.GroupNorm(4, channels))),
    "one-group": ((3, 32), lambda: windows(lambda channels: nn.GroupNorm(1, channels))),
}


@dataclass(frozen=True)
class Trained:
    model: nn.Module
    x: np.ndarray  # training records, in torch's layout
    fresh: np.ndarray  # records of the same kind that were not trained on
    logits: np.ndarray  # of `fresh`


def draw(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Records around one template per class, and their classes."""
    templates = np.random.default_rng(5).normal(size=(4, *shape))
    y = rng.integers(0, 4, count)
    return (templates[y] + 0.8 * rng.normal(size=(count, *shape))).astype(np.float32), y


def start(model: nn.Module, rng: np.random.Generator) -> nn.Module:
    """Draw the weights from `rng`, and set biases to zero: torch draws both from a global generator."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
        elif parameter.ndim > 1:
            values = rng.normal(size=parameter.shape) * np.sqrt(2 / parameter[0].numel())
            parameter.data = torch.from_numpy(values.astype(np.float32))
    return model


@functools.cache
def _trained(name: str) -> Trained:
    shape, build = NETS[name]
    rng = np.random.default_rng(3)
    model = start(build(), rng).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # its noise would come from a global generator
    x, y = draw(shape, 400, rng)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(8):
        for rows in np.array_split(rng.permutation(400), 10):
            optimiser.zero_grad()
            F.cross_entropy(model(torch.from_numpy(x[rows])), torch.from_numpy(y[rows])).backward()
            optimiser.step()
    fresh, _ = draw(shape, 200, rng)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(fresh)).numpy()
    return Trained(model, x, fresh, logits)


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Trained]:
    """A trained network of `NETS`, by name."""
    return _trained


@pytest.fixture(scope="session")
def exported(trained) -> Callable[..., bytes]:
    """A trained network as an int8 file, converted once per session."""

    @functools.cache
    def make(name: str, answers: str = "logits", variant: str = "int8") -> bytes:
        return export(trained(name).model, trained(name).x[:200], variant, answers)

    return make


@pytest.fixture
def seeded() -> Callable[[nn.Module], nn.Module]:
    """Gives an untrained model weights that are the same every time, and BatchNorm statistics that are not 0 and 1."""

    def seed(model: nn.Module) -> nn.Module:
        rng = np.random.default_rng(11)
        for name, buffer in start(model, rng).named_buffers():
            if buffer.ndim:
                low = 0.5 if "var" in name else -1.0
                buffer.copy_(torch.from_numpy(rng.uniform(low, 2.0, buffer.shape).astype(np.float32)))
        return model.eval()

    return seed


@pytest.fixture
def operators() -> Callable[[bytes], collections.Counter[str]]:
    """How often each operator occurs in a TFLite file."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}

    def count(blob: bytes) -> collections.Counter[str]:
        model = schema.ModelT.InitFromPackedBuf(blob)
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        return collections.Counter(names[codes[op.opcodeIndex]] for op in model.subgraphs[0].operators)

    return count


@pytest.fixture
def run_float() -> Callable[[bytes, np.ndarray], np.ndarray]:
    """Run a float32 file on records in torch's layout."""
    from ai_edge_litert.interpreter import Interpreter

    def run(blob: bytes, x: np.ndarray) -> np.ndarray:
        interpreter = Interpreter(model_content=blob, num_threads=1)
        interpreter.allocate_tensors()
        source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        answers = []
        for row in np.moveaxis(x, 1, -1) if x.ndim > 2 else x:
            interpreter.set_tensor(source["index"], row.reshape(source["shape"]))
            interpreter.invoke()
            answers.append(interpreter.get_tensor(result["index"])[0])
        return np.stack(answers)

    return run
