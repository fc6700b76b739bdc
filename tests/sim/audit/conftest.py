"""Real models of real records, trained here and exported: one that remembers its members, and its kin."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_diabetes, load_digits
from torch import nn

from edge.export import export
from edge.tensors import packed, unpacked
from sim.audit.run import Request, audit
from sim.progress import Progress

MEMBERS, OTHERS, OWN = slice(0, 400), slice(400, 800), slice(800, 1200)
ELSEWHERE = slice(1200, 1600)  # what models that never saw the members train on


@dataclass(frozen=True)
class Digits:
    """Digits with 15 % wrong labels, which can only be learnt by heart; rows are in no order."""

    x: np.ndarray
    y: np.ndarray


@functools.cache
def digits() -> Digits:
    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    wrong = rng.random(len(y)) < 0.15
    y = np.where(wrong, rng.integers(10, size=len(y)), y)
    return Digits((x[order] / 16).astype(np.float32), y[order].astype(np.int64))


def fitted(model: nn.Module, x, target, loss, epochs=40, rate=0.005) -> nn.Module:
    """Train with Adam from weights that `model` has; nothing is drawn from a global generator."""
    rng = np.random.default_rng(1)
    for weights in model.parameters():
        bound = 1 / np.sqrt(weights[0].numel() if weights.ndim > 1 else 64)
        weights.data = torch.from_numpy(rng.uniform(-bound, bound, weights.shape).astype(np.float32))
    optimiser = torch.optim.Adam(model.parameters(), rate)
    x, target = torch.from_numpy(x), torch.from_numpy(target)
    for _ in range(epochs):
        for rows in torch.split(torch.from_numpy(rng.permutation(len(x))), 32):
            optimiser.zero_grad()
            loss(model(x[rows]), target[rows]).backward()
            optimiser.step()
    return model.eval()


def mlp(inputs: int, outputs: int, width: int = 128) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


@functools.cache
def classifier(rows: tuple[int, int]) -> nn.Module:
    """Trained on these rows of the digits."""
    data, part = digits(), slice(*rows)
    return fitted(mlp(64, 10), data.x[part], data.y[part], nn.functional.cross_entropy)


def bounds(part: slice) -> tuple[int, int]:
    return part.start, part.stop


def binary() -> bytes:
    data = digits()
    target = (data.y[MEMBERS] >= 5).astype(np.float32)[:, None]
    model = fitted(mlp(64, 1), data.x[MEMBERS], target, nn.functional.binary_cross_entropy_with_logits, epochs=80)
    return export(model, data.x[OWN][:100])


def autoencoder() -> bytes:
    data = digits()
    model = fitted(mlp(64, 64), data.x[:150], data.x[:150], nn.functional.mse_loss, epochs=100)
    return export(model, data.x[OWN][:100])


def regressor() -> bytes:
    x, y = diabetes()
    model = fitted(mlp(10, 1, 256), x[:150], y[:150, None], nn.functional.mse_loss, epochs=150, rate=0.01)
    return export(model, x[300:400], "float32")


@functools.cache
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (20 * x[order]).astype(np.float32), ((y[order] - y.mean()) / y.std()).astype(np.float32)


def weight_only() -> bytes:
    """The float file with the first layer's weights in int8, one scale per channel, turned back by a DEQUANTIZE."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = unpacked(model_file("float"))
    graph = whole.subgraphs[0]
    code, operator, back = schema.OperatorCodeT(), schema.OperatorT(), schema.TensorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    whole.operatorCodes.append(code)
    index = int(graph.operators[0].inputs[1])
    tensor = graph.tensors[index]
    values = np.frombuffer(bytes(whole.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
    scale = np.abs(values).max(axis=1) / 127
    levels = np.round(values / scale[:, None]).astype(np.int8)
    whole.buffers[tensor.buffer].data = np.frombuffer(levels.tobytes(), np.uint8)
    back.shape, back.type, back.name = tensor.shape, tensor.type, b"back"
    tensor.type, tensor.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = scale.tolist(), [0] * len(scale)
    graph.tensors.append(back)
    operator.opcodeIndex, operator.inputs = len(whole.operatorCodes) - 1, [index]
    operator.outputs = [len(graph.tensors) - 1]
    graph.operators[0].inputs = [graph.operators[0].inputs[0], len(graph.tensors) - 1, *graph.operators[0].inputs[2:]]
    graph.operators.insert(0, operator)
    return packed(whole)


FILES = {
    "leaky": lambda: export(classifier(bounds(MEMBERS)), digits().x[OWN][:100]),
    "softmax": lambda: export(classifier(bounds(MEMBERS)), digits().x[OWN][:100], answers="probabilities"),
    "float": lambda: export(classifier(bounds(MEMBERS)), digits().x[OWN][:100], "float32"),
    "null": lambda: export(classifier(bounds(ELSEWHERE)), digits().x[OWN][:100]),
    "binary": binary,
    "autoencoder": autoencoder,
    "regressor": regressor,
    "weight-only": weight_only,
}


@functools.cache
def model_file(name: str) -> bytes:
    return FILES[name]()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Holds members.npz, others.npz and own.npz of the digits."""
    path, data = tmp_path_factory.mktemp("audit"), digits()
    for name, part in (("members", MEMBERS), ("others", OTHERS), ("own", OWN)):
        np.savez_compressed(path / f"{name}.npz", x=data.x[part], y=data.y[part])
    return path


@pytest.fixture(scope="session")
def model(folder):
    """The path of a model file by name."""

    @functools.cache
    def write(name: str) -> Path:
        path = folder / f"{name}.tflite"
        path.write_bytes(model_file(name))
        return path

    return write


@pytest.fixture
def saved(tmp_path):
    """Saves arrays under a name, and gives the path."""

    def save(name: str, **arrays) -> Path:
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        return path

    return save


@pytest.fixture(scope="session")
def audited(folder, model, tmp_path_factory):
    """An audit of a model by name, with the digits unless other files are named."""
    out = tmp_path_factory.mktemp("audits")

    def run(name: str, members="members", nonmembers="others", **more):
        data = {"members": folder / f"{members}.npz", "nonmembers": folder / f"{nonmembers}.npz"} if members else {}
        return audit(Request(model=model(name), out=out, **data | more), Progress(Console(file=io.StringIO())))

    return run
