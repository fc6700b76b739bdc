"""Importing the package must not load the heavy runtimes: `seepage --help` answers at once."""

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "tflite_micro", "ai_edge_litert", "tflite_runtime")
LIGHT = (
    "edge.arena, edge.artifact, edge.bundle, edge.check, edge.config, edge.cost, edge.devices, edge.inspection, "
    "edge.remedy, edge.runtimes, edge.sandbox, edge.tensors, edge.vela"
)


@pytest.mark.parametrize(("modules", "banned"), [("edge.export", HEAVY), (LIGHT, (*HEAVY, "torch"))])
def test_heavy_libraries_are_loaded_when_they_are_used(modules, banned):
    code = f"import {modules}, sys; sys.exit(', '.join(sorted(set({banned!r}) & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
