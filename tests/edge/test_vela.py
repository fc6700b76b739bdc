"""Arm's compiler, run for real on exported networks."""

import importlib.util
import sys

import pytest

from edge.devices import DEVICES, fits_all
from edge.vela import VelaError, VelaMissingError, compile_for_npu, missing


@pytest.fixture
def bare(monkeypatch):
    """As if vela were not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ethosu" else found(name, *rest)
    )


@pytest.fixture(scope="module")
def compiled(exported):
    return compile_for_npu(exported("depthwise"))


def test_an_int8_network_runs_on_the_npu_alone(compiled):
    assert (compiled.cpu_operators, compiled.share, compiled.left) == (0, 1.0, ())
    assert compiled.npu_operators >= 5
    assert 0 < compiled.cycles[0] < compiled.cycles[1]  # the second system's memory is slower
    # cycles at 500 and 200 MHz
    assert compiled.milliseconds == pytest.approx((compiled.cycles[0] / 500e3, compiled.cycles[1] / 200e3))
    assert 8 * 8 * 8 + 16 * 16 <= compiled.sram_bytes < 10_000  # two maps at once
    assert 0 < compiled.flash_bytes < compiled.model_bytes
    assert compiled.latency.interval == compiled.milliseconds
    assert "estimated, not measured, by Arm's compiler vela" in compiled.latency.words


def test_what_vela_compiles_is_what_fits_corstone(compiled):
    fit = fits_all(10**8, 10**8, compiled=compiled.sizes(arena_bytes=10**8))["corstone-300"]
    assert fit.fits
    assert fit.ram.needed == compiled.sram_bytes + 4096
    assert fit.flash.needed == compiled.model_bytes + 112 * 1024


def test_a_larger_accelerator_takes_fewer_cycles(exported, compiled):
    small = compile_for_npu(exported("depthwise"), "ethos-u55-32")
    assert compiled.cycles[0] < small.cycles[0]


def test_a_float_network_stays_on_the_processor(exported):
    compiled = compile_for_npu(exported("mlp", variant="float32"))
    assert (compiled.npu_operators, compiled.share) == (0, 0.0)
    assert compiled.left[0].operator == "FULLY_CONNECTED"
    assert "Float32" in compiled.left[0].reason
    assert compiled.latency.interval is None
    assert "operators stay on the processor" in compiled.latency.anchor
    assert compiled.sizes(arena_bytes=5000)[1] == compiled.sram_bytes + 5000


def test_what_is_no_model_is_refused_and_what_takes_too_long_is_stopped(exported):
    with pytest.raises(VelaError, match=r"vela refused this model: |vela crashed on this model \(signal 11\)"):
        compile_for_npu(b"TFL3" * 100)
    with pytest.raises(VelaError, match=r"not done within 0\.01 seconds"):
        compile_for_npu(exported("mlp"), seconds=0.01)


def test_an_accelerator_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"'ethos-u99' is not known; choose one of ethos-u55-32, "):
        compile_for_npu(b"", "ethos-u99")


def test_a_missing_vela_says_how_to_get_it(bare):
    assert missing() == "vela is not installed: pip install ethos-u-vela"
    with pytest.raises(VelaMissingError, match="pip install ethos-u-vela"):
        compile_for_npu(b"")


def test_it_is_not_imported_into_this_process(compiled):
    assert not any(name.startswith("ethosu.vela") for name in sys.modules)


def test_every_board_with_an_npu_names_one_that_vela_knows():
    from edge.vela import ACCELERATORS

    assert {device.npu for device in DEVICES.values()} - {None} <= set(ACCELERATORS)
