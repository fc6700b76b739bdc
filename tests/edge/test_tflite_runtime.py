"""tflite-runtime, which needs NumPy 1, in an environment made for it."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import edge
from edge.artifact import Artifact
from edge.runtimes import run

SCRIPT = """
import sys
root, folder = sys.argv[1:]
sys.path.insert(0, root)
import numpy as np
from edge.artifact import Artifact, Port
from edge.runtimes import run
model, inputs = open(folder + "/model.tflite", "rb").read(), np.load(folder + "/inputs.npy")
artifact = Artifact(model, Port((1, *inputs.shape[1:]), "int8"), Port((1, 4), "int8"), "logits")
np.save(folder + "/outputs.npy", run(artifact, inputs, "tflite-runtime"))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """The interpreter of an environment with tflite-runtime and NumPy 1."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    reader = f"tflite-micro=={version('tflite-micro')}"  # its schema reads the file for every runtime
    wanted = ["tflite-runtime==2.14.0", "numpy<2", "jaxtyping", reader]
    subprocess.run([found, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime 2.14 has no wheels after Python 3.11")
@pytest.mark.parametrize("name", ["mlp", "cnn", "windows"])
def test_the_same_bytes_give_nearly_the_same_answers(name, python, trained, exported, tmp_path):
    artifact = Artifact.from_bytes(exported(name))
    inputs = artifact.quantize_input(trained(name).fresh)
    (tmp_path / "model.tflite").write_bytes(artifact.model)
    np.save(tmp_path / "inputs.npy", inputs)
    root = Path(edge.__file__).parents[1]
    subprocess.run([python, "-c", SCRIPT, root, tmp_path], check=True)
    outputs = np.load(tmp_path / "outputs.npy").astype(int)
    assert np.abs(outputs - run(artifact, inputs, "litert")).max() <= 1
    assert np.abs(outputs - run(artifact, inputs, "tflm")).max() <= 1
