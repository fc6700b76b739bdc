"""From a model to an ELF file."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.artifact import Artifact
from edge.firmware.cores import CORES, KERNELS, Core, Kernels
from edge.firmware.generate import Generated, generate
from edge.firmware.toolchain import GCC, FirmwareError, call, section_sizes
from edge.runtimes.runtime import CannotRunError
from edge.tensors import type_names, unpacked

ELF: Final = "firmware.elf"
PATIENCE: Final = 300.0  # seconds of CPU time; a large model takes some ten


@dataclass(frozen=True)
class Sizes:
    """Bytes of the program in flash and of its variables in RAM.

    `code` and `weights` are what the model needs in flash: kernels and generated code, and constants (weights, in
    whatever form the kernels want them, biases, multipliers). `library` is what they use of the C library (memcpy,
    memset), `bench` what only this emulation needs: start-up, timer, serial port. `bss` holds the model's working
    memory.
    """

    code: int
    weights: int
    library: int
    bench: int
    data: int
    bss: int

    @property
    def text(self) -> int:
        """All that lies in flash, as `arm-none-eabi-size` counts it."""
        return self.code + self.weights + self.library + self.bench

    @property
    def model_flash(self) -> int:
        """What the model adds to the flash of an application that has memcpy already."""
        return self.code + self.weights + self.data


@dataclass(frozen=True)
class Firmware:
    """A model compiled for a core, without an interpreter, and what it takes of the device.

    `arena_bytes` is the working memory that bakenn planned ahead for activations inside its stretches, and
    `buffers_bytes` what lies between stages and at both ends. Together they are all that an inference needs beside the
    stack. It is not TFLite Micro's arena: there is no interpreter, and the model is cut up differently.
    """

    folder: Path
    core: str
    kernels: Kernels
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    buffers_bytes: int
    sizes: Sizes
    command: tuple[str, ...]  # with which it was compiled, to be run in the folder
    sha256: str = field(repr=False)  # of the model
    four_bits: bool = False  # some weights of the model have four bits: here they take eight

    @property
    def elf(self) -> Path:
        """The program."""
        return self.folder / ELF

    @property
    def working_bytes(self) -> int:
        """All RAM of an inference beside the stack."""
        return self.arena_bytes + self.buffers_bytes


def build(model: bytes, folder: Path, core: str = "cortex-m4", kernels: Kernels | None = None) -> Firmware:
    """Compile an int8 TFLite file into firmware, in a folder that is empty or does not exist.

    `core` is one of `CORES`; `kernels` one of those that it has, by default its fastest. The same model gives the same
    sources and, with the same compiler, the same ELF file, whatever the folder.

    Raises `ValueError` for a core or kernels that do not exist, `ArtifactError` for a damaged file, `CannotRunError`
    for a model that cannot become firmware, `ToolMissingError` without a compiler, and `FirmwareError` if it fails.
    """
    chosen, used = _chosen(core, kernels)
    artifact = Artifact.from_bytes(model)
    if (artifact.input.numbers, artifact.output.numbers) != ("int8", "int8"):
        raise CannotRunError(
            f"the model takes {artifact.input.numbers} and gives {artifact.output.numbers}; firmware computes in int8"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FirmwareError(f"{folder} is not empty: firmware is built in a folder of its own")
    with tempfile.TemporaryDirectory() as name:  # what fails leaves nothing behind
        made = generate(model, core, used, Path(name))
        command = _command(chosen, made)
        call(command, Path(name), PATIENCE)
        shutil.copytree(name, folder, dirs_exist_ok=True)
    return Firmware(
        folder=folder,
        core=core,
        kernels=used,
        input_bytes=made.input_bytes,
        output_bytes=made.output_bytes,
        arena_bytes=made.arena_bytes,
        buffers_bytes=made.buffers_bytes,
        sizes=_sizes((folder / ELF).read_bytes()),
        command=command,
        sha256=hashlib.sha256(model).hexdigest(),
        four_bits=any(type_names()[tensor.type] == "INT4" for tensor in unpacked(model).subgraphs[0].tensors),
    )


def _sizes(elf: bytes) -> Sizes:
    sizes = section_sizes(elf)
    parts = {name: sizes.get(f".{name}", 0) for name in ("weights", "library", "bench", "data", "bss")}
    return Sizes(code=sizes.get(".code", 0) + sizes.get(".unwind", 0), **parts)


def _chosen(core: str, kernels: Kernels | None) -> tuple[Core, Kernels]:
    if core not in CORES:
        raise ValueError(f"core '{core}' does not exist; choose one of {', '.join(CORES)}")
    if kernels is not None and kernels not in KERNELS:
        raise ValueError(f"kernels '{kernels}' do not exist; choose one of {', '.join(KERNELS)}")
    chosen = CORES[core]
    if kernels is not None and kernels not in chosen.kernels:
        raise ValueError(
            f"{core} has no kernels '{kernels}', for it lacks the instructions; it has {chosen.kernels[0]}"
        )
    return chosen, kernels or chosen.kernels[0]


def _command(core: Core, made: Generated) -> tuple[str, ...]:
    """Everything relative to the folder, so that no path of this machine gets into the program."""
    return (
        GCC,
        *core.flags,
        "-std=c11",
        "-O2",
        "-ffunction-sections",
        "-fdata-sections",
        *(f"-I{folder}" for folder in made.includes),
        *(f"-D{name}" for name in made.defines),
        *made.sources,
        "-nostartfiles",
        "-Wl,--gc-sections,--build-id=none",
        "-T",
        "link.ld",
        "-o",
        ELF,
    )
