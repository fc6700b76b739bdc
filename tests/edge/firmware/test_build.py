"""What is built, what it is made of, and what is refused."""

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

import edge
from edge.artifact import Artifact, ArtifactError
from edge.firmware import FirmwareError, ToolMissingError, build, facts, missing, pack, run
from edge.firmware.generate import generate
from edge.firmware.stages import cut
from edge.runtimes import CannotRunError, RuntimeMissingError
from edge.runtimes import run as run_on
from edge.tensors import packed, unpacked


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def renamed(exported):
    """A model in which every name is an attack on a shell, a C comment or a path."""
    whole = unpacked(exported("mlp"))
    hostile = [
        "x; touch /tmp/pwned #",
        "*/ #error */",
        "../../../../etc/passwd",
        "$(reboot)",
        '"\n#include "/etc/hosts"',
    ]
    for index, tensor in enumerate(whole.subgraphs[0].tensors):
        tensor.name = hostile[index % len(hostile)] + str(index)
    whole.subgraphs[0].name, whole.description = hostile[1], hostile[0]
    return packed(whole)


def test_the_same_model_gives_the_same_files_in_any_folder(built, exported, tmp_path):
    again = build(exported("mlp", "probabilities"), tmp_path / "a folder" / "of its own")
    assert files(again.folder) == files(built("mlp").folder)
    assert not any(str(tmp_path).encode() in content for content in files(again.folder).values())


def test_names_in_the_file_reach_nothing(built, renamed, tmp_path):
    assert files(build(renamed, tmp_path).folder) == files(built("mlp", "logits").folder)


def test_packed_firmware_is_made_again_by_the_command_in_its_readme(built, tmp_path):
    packed_files = pack(built("mlp"), tmp_path)
    elf = (tmp_path / "firmware.elf").read_bytes()
    (tmp_path / "firmware.elf").unlink()
    readme = (tmp_path / "README.md").read_text()
    command = next(line for line in readme.splitlines() if line.startswith("arm-none-eabi-gcc"))
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    assert (tmp_path / "firmware.elf").read_bytes() == elf
    assert {str(path) for path in packed_files} == set(files(tmp_path))
    assert built("mlp").sha256 in readme


def test_licences_come_with_the_sources_of_others(built, tmp_path):
    names = {str(path) for path in pack(built("depthwise"), tmp_path)}
    assert {"third_party/cmsis_nn/LICENSE.txt", "third_party/cmsis_core/LICENSE.txt"} <= names


def test_sizes_are_those_that_the_compiler_counts(built):
    firmware = built("mlp")
    said = subprocess.run(["arm-none-eabi-size", firmware.elf], capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, said.splitlines()[1].split()[:3])
    assert (text, data, bss) == (firmware.sizes.text, firmware.sizes.data, firmware.sizes.bss)
    assert firmware.sizes.bss == firmware.working_bytes
    assert firmware.sizes.weights >= 20 * 32 + 32 * 4  # the weights themselves
    assert firmware.sizes.library < 1000
    assert firmware.sizes.bench < 1000


def test_memory_is_at_least_the_largest_maps(built, exported):
    assert built("depthwise").working_bytes >= 17 * 17 + 8 * 8 * 8  # the first convolution's padded input, and output


def test_facts_are_numbers_with_what_they_were_made_with(built, exported, inputs):
    firmware = built("mlp")
    done = run(firmware, inputs(exported("mlp")))
    said = facts(firmware, done)
    assert said["emulated"]["instructions"] == done.instructions
    assert said["flash_bytes"]["text"] == firmware.sizes.text
    assert said["made_with"]["bakenn"] == "1.0.0"
    assert facts(firmware)["emulated"] is None


def test_nothing_is_printed(built, exported, capfd, tmp_path):
    if missing() is None:
        build(exported("mlp"), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "variant", "words"),
    [
        ("group-norm", "int8", r"operator 4 of 25, SUB, has no kernel here; firmware does ADD, .*SOFTMAX"),
        ("mlp", "float32", r"takes float32 and gives float32; firmware computes in int8"),
        ("mlp", "int16x8", r"takes int16 and gives int16; firmware computes in int8"),
    ],
)
def test_what_cannot_be_firmware_is_refused_by_name(name, variant, words, exported, tmp_path):
    with pytest.raises(CannotRunError, match=words):
        build(exported(name, "logits", variant), tmp_path)
    assert not any(tmp_path.iterdir())


def test_what_bakenn_refuses_says_so_and_leaves_nothing_behind(exported, tmp_path):
    whole = unpacked(exported("mlp"))
    weights = whole.subgraphs[0].tensors[whole.subgraphs[0].operators[0].inputs[1]]
    values = np.frombuffer(bytes(bytearray(whole.buffers[weights.buffer].data)), np.int8).copy()
    values[0] = -128
    whole.buffers[weights.buffer].data = values.view(np.uint8)
    with pytest.raises(CannotRunError, match=r"bakenn refuses operators 1 to 2 of this model: .*-128"):
        build(packed(whole), tmp_path)
    assert not any(tmp_path.iterdir())


def test_an_activation_that_crosses_an_operator_of_ours_is_refused(exported):
    whole = unpacked(exported("windows"))
    operators = whole.subgraphs[0].operators
    last = list(operators[-1].inputs)
    operators[-1].inputs = [*last[:2], int(operators[0].outputs[0])]  # the last layer takes the first map for its bias
    with pytest.raises(CannotRunError, match=r"operator 5 of 5, FULLY_CONNECTED, takes an activation from before"):
        cut(packed(whole))


def test_damaged_files_are_told_apart_from_faults_of_ours(exported, tmp_path):
    model, rng = exported("windows", "probabilities"), np.random.default_rng(11)
    refused = 0
    for attempt in range(60):
        torn = bytearray(model)
        for place in rng.integers(8, len(model), 3):
            torn[place] = rng.integers(256)
        folder = tmp_path / str(attempt)
        folder.mkdir()
        try:
            generate(bytes(torn), "cortex-m4", "cmsis-nn", folder)
        except (ArtifactError, CannotRunError):
            refused += 1
    assert refused > 0


def test_an_unknown_core_or_kernels_are_refused_with_the_known_ones(exported, tmp_path):
    with pytest.raises(ValueError, match="'cortex-a53' does not exist; choose one of cortex-m4, cortex-m7, cortex-m3"):
        build(exported("mlp"), tmp_path, "cortex-a53")
    with pytest.raises(ValueError, match="'mve' do not exist; choose one of cmsis-nn, portable"):
        build(exported("mlp"), tmp_path, kernels="mve")
    with pytest.raises(ValueError, match=r"cortex-m3 has no kernels 'cmsis-nn'.*it has portable"):
        build(exported("mlp"), tmp_path, "cortex-m3", "cmsis-nn")


def test_a_folder_with_something_in_it_is_left_alone(exported, built, tmp_path):
    (tmp_path / "mine").write_text("")
    for make in (lambda: build(exported("mlp"), tmp_path), lambda: pack(built("mlp"), tmp_path)):
        with pytest.raises(FirmwareError, match="is not empty"):
            make()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_a_toolchain_one_line_says_how_to_get_it(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    line = missing()
    assert line is not None
    assert "\n" not in line
    assert "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm" in line
    with pytest.raises(ToolMissingError, match="apt-get install"):
        build(exported("mlp"), tmp_path / "folder")
    artifact = Artifact.from_bytes(exported("mlp"))
    with pytest.raises(RuntimeMissingError, match="apt-get install"):
        run_on(artifact, np.zeros((1, 20), np.int8), "qemu")
    run_on(artifact, np.zeros((1, 20), np.int8), "tflm")


def test_the_wheel_brings_the_c_sources():
    root = Path(edge.__file__).parents[1]
    shipped = {file.relative_path for file in WheelBuilder(str(root)).recurse_included_files()}
    sources = {str(path.relative_to(root)) for path in (root / "edge/firmware/source").iterdir()}
    assert len(sources) == 6
    assert sources <= shipped
