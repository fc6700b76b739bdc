"""Estimates hold what was published and name what they rest on; where nothing was published there is none."""

from dataclasses import replace

import pytest

from edge.cost import Estimate, Work, count, energy, latency
from edge.cost.anchors import (
    ANCHORS,
    CONVOLUTION,
    CYCLES_PER_INSTRUCTION,
    DENSE,
    DEPTHWISE,
    NO_ANCHOR,
    SYSTEMS,
    TINY,
    System,
)
from edge.devices import DEVICES

BOARDS = {
    "cortex-m4": "stm32l4r5",
    "cortex-m33": "nrf5340-dk",
    "cortex-m7": "stm32f746",
    "cortex-m0plus": "pico-rp2040",
}
# MLPerf Tiny v1.1, inferences per second: systems that no rate was made of.
LATER = (
    System(
        "Skymizer on STM32L4R5",
        "cortex-m4",
        120,
        {"ad": 1000 / 123.862, "ic": 1000 / 3.347, "kws": 1000 / 12.191, "vww": 1000 / 5.776},
    ),
    System(
        "Bosch HALE on STM32F746",
        "cortex-m7",
        216,
        {"ad": 1000 / 587.335, "ic": 1000 / 16.242, "kws": 1000 / 54.293, "vww": 1000 / 17.490},
    ),
)
# Instructions of our autoencoder (one scale per layer, as MLPerf's), resnet8, ds-cnn and mobilenet-v1-0.25, as firmware
# with CMSIS-NN on a Cortex-M4 in QEMU
COUNTED = {"ad": 575_253, "kws": 7_647_000, "ic": 34_159_227, "vww": 25_511_720}


def work(**macs: int) -> Work:
    return Work(macs, {}, 0, "int8")


def tiny(model: str) -> Work:
    return work(**TINY[model])


def board(system: System):
    """The system's own clock, whatever board stands for its architecture."""
    return replace(DEVICES[BOARDS[system.architecture]], clock_mhz=system.clock_mhz)


def test_rates_are_those_of_the_rows_by_hand():
    rates = SYSTEMS["microTVM with CMSIS-NN on STM32L4R5"].cycles_per_mac()
    assert rates[DENSE][0] == pytest.approx(8.6e-3 * 120e6 / 264192)  # 3.906
    assert rates[CONVOLUTION][0] == pytest.approx(3.74, abs=0.005)
    # 99.8 ms are 11.976 million cycles; 2368000 * 3.7397 and 768 * 3.906 of them are not depthwise
    assert rates[DEPTHWISE][0] == pytest.approx((11_976_000 - 8_855_600 - 3_000) / 288_000, abs=0.01)


@pytest.mark.parametrize("system", [*SYSTEMS.values(), *LATER], ids=lambda system: system.name)
@pytest.mark.parametrize("model", TINY)
def test_the_interval_holds_every_published_time(system, model):
    low, high = latency(tiny(model), board(system)).interval
    assert low < system.milliseconds[model] < high


@pytest.mark.parametrize("model", COUNTED)
@pytest.mark.parametrize("name", ["microTVM with CMSIS-NN on STM32L4R5", "microTVM with CMSIS-NN on nRF5340"])
def test_our_own_firmware_s_instructions_give_the_published_times(name, model):
    """The same kernels in other generated code: a narrow interval that holds what boards took, within the wide one."""
    system = SYSTEMS[name]
    wide = latency(tiny(model), board(system)).interval
    narrow = latency(tiny(model), board(system), COUNTED[model]).interval
    assert wide[0] < narrow[0] < system.milliseconds[model] < narrow[1] < wide[1]


# MLPerf Tiny v1.0's cycles on STM32L4R5 per instruction counted in QEMU, TFLite Micro with CMSIS-NN
@pytest.mark.parametrize(("model", "ratio"), [("ad", 1.77), ("ic", 1.57), ("kws", 1.58), ("vww", 1.52)])
def test_counted_instructions_give_the_published_times_within_15_percent(model, ratio):
    l4r5 = SYSTEMS["microTVM with CMSIS-NN on STM32L4R5"]
    instructions = int(l4r5.milliseconds[model] * 120_000 / ratio)
    for system in (l4r5, SYSTEMS["microTVM with CMSIS-NN on nRF5340"], SYSTEMS["X-CUBE-AI on STM32H7A3"]):
        low, high = latency(tiny(model), board(system), instructions).interval
        assert low < system.milliseconds[model] < high
    low, high = latency(tiny(model), board(l4r5), instructions).interval
    assert high / low == pytest.approx(1.84 / 1.36)
    assert (low * high) ** 0.5 == pytest.approx(instructions * 1.58 / 120_000, rel=0.01)


@pytest.mark.parametrize(
    ("name", "milliseconds"),
    [("esp32", 380), ("esp32-s3", 54), ("esp32-c3", 426)],  # README of espressif/esp-tflite-micro
)
def test_espressif_s_person_detection_is_in_the_interval(name, milliseconds):
    # MobileNetV1-0.25 on 96x96 grey images: the first layer has a third of the products of that on colour
    person = work(CONV_2D=6_359_040, DEPTHWISE_CONV_2D=798_336, FULLY_CONNECTED=512)
    low, high = latency(person, DEVICES[name]).interval
    assert low < milliseconds < high


@pytest.mark.parametrize("name", DEVICES)
def test_every_board_has_an_interval_with_an_anchor_or_a_reason(name):
    device = DEVICES[name]
    found = latency(tiny("ic"), device)
    assert (found.interval is None) == (device.architecture in NO_ANCHOR)
    assert found.anchor
    joules = energy(found, device)
    assert (joules.interval is None) == (found.interval is None or device.power is None)
    assert joules.anchor
    if joules.interval is None:
        assert joules.words.startswith("not known: ")


def test_anchors_are_named_and_say_why_they_are_wide():
    assert (
        "microTVM with CMSIS-NN on STM32L4R5, within a factor of 2" in latency(tiny("ic"), DEVICES["stm32f411"]).words
    )
    assert "X-CUBE-AI on STM32L4R5" in latency(tiny("ic"), DEVICES["stm32f411"]).words
    assert "wide: one engine" in latency(tiny("ic"), DEVICES["pico-rp2040"]).words
    assert "a slower chip beside it" in latency(tiny("ic"), DEVICES["pico-rp2040"]).words
    assert "wide: one model" in latency(tiny("ic"), DEVICES["esp32-c3"]).words
    assert "no published time" in latency(tiny("ic"), DEVICES["stm32f103"]).words


@pytest.mark.parametrize(
    ("unlike", "reason"),
    [
        (Work({CONVOLUTION: 10}, {}, 1, "float32"), "this file computes in float32"),
        (Work({CONVOLUTION: 10}, {}, 1, "int4 weights"), "this file computes in int4 weights"),
        (Work({CONVOLUTION: 10, "BATCH_MATMUL": 5}, {}, 2, "int8"), "nothing was published on BATCH_MATMUL"),
        (Work({DENSE: 10}, {"SVDF": 5}, 2, "int8", ("SVDF",)), "nothing was published on SVDF"),
    ],
)
def test_what_was_never_timed_has_no_estimate(unlike, reason):
    found = latency(unlike, DEVICES["stm32l4r5"])
    assert found.interval is None
    assert reason in found.anchor


def test_counted_instructions_serve_other_numbers_too_with_twice_the_doubt():
    unlike = Work({CONVOLUTION: 10}, {}, 1, "float32")
    found = latency(unlike, DEVICES["stm32l4r5"], instructions=1_200_000)  # 10 ms at one per cycle
    assert found.interval == pytest.approx((6.8, 36.8))
    assert "float32" in found.anchor
    assert latency(unlike, DEVICES["esp32"], instructions=1_200_000).interval is None  # not its instructions


def test_other_operators_add_to_the_upper_end_alone():
    device = DEVICES["stm32l4r5"]
    plain = latency(Work({DENSE: 1000}, {}, 0, "int8"), device).interval
    more = latency(Work({DENSE: 1000}, {"ADD": 500}, 3, "int8"), device).interval
    assert more[0] == plain[0]
    # mcufit's 120.5 cycles per element and 1152 per call, twice over
    assert (more[1] - plain[1]) * 120_000 == pytest.approx(2 * (500 / 0.0083 + 3 * 1152))


def test_energy_is_latency_times_power():
    device = DEVICES["stm32l4r5"]  # 40.0 to 52.3 mW
    found = energy(Estimate((10.0, 20.0), "ms", "a clock"), device)
    assert found.interval == pytest.approx((400.0, 1046.0))
    assert found.unit == "uJ"
    assert found.anchor.startswith("40 to 52.3 mW, times the latency; MLPerf")


# Median microjoules of MLPerf Tiny's energy logs, with the board's own times
@pytest.mark.parametrize(
    ("name", "system", "microjoules"),
    [
        ("stm32l4r5", "microTVM with CMSIS-NN on STM32L4R5", {"ad": 443, "ic": 20236, "kws": 5230, "vww": 15531}),
        ("stm32l4r5", "TFLite Micro 2.3.1 on STM32L4R5", {"ad": 416, "ic": 29207, "kws": 7374, "vww": 24313}),
        ("stm32u575", "X-CUBE-AI on STM32U575", {"ad": 119, "ic": 3642, "kws": 1139, "vww": 3364}),
        ("stm32h7a3", "X-CUBE-AI on STM32H7A3", {"ad": 266, "ic": 8707, "kws": 2722, "vww": 7978}),
    ],
)
def test_the_interval_holds_the_measured_energies(name, system, microjoules):
    device = DEVICES[name]
    assert device.architecture == SYSTEMS[system].architecture
    for model, measured in microjoules.items():
        low, high = energy(latency(tiny(model), device), device).interval
        assert low < measured < high


def test_nothing_is_both_anchored_and_not():
    assert not ANCHORS.keys() & NO_ANCHOR.keys()
    architectures = {device.architecture for device in DEVICES.values()}
    assert architectures <= ANCHORS.keys() | NO_ANCHOR.keys()
    assert CYCLES_PER_INSTRUCTION.keys() <= architectures


def test_a_real_file_has_an_estimate_on_a_real_board(exported):
    found = latency(count(exported("windows")), DEVICES["nano-33-ble-sense"])
    assert 0 < found.interval[0] < found.interval[1] < 50
    assert found.words.startswith(f"{found.interval[0]:.3g} to {found.interval[1]:.3g} ms: ")
