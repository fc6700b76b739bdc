"""What makes a misfit fit, from measured sizes alone."""

import pytest

from edge.devices import DEVICES
from edge.remedy import ORDER, Measured, remedies

F411 = DEVICES["stm32f411"]  # 524288 bytes of flash, 114688 of usable RAM
BLUE_PILL = DEVICES["stm32f103"]  # 65536 and 16384


def test_a_model_that_fits_needs_no_remedy():
    assert remedies(F411, Measured("int8", 100_000, 50_000), [Measured("int4", 60_000, 60_000)]) == []


def test_too_much_flash_is_mended_by_code_then_by_numbers_then_by_a_smaller_model_then_by_a_board():
    current = Measured("int8", 450_000, 50_000)  # with 114688 of code 40400 bytes too many
    found = remedies(F411, current, [Measured("int4", 250_000, 60_000)], [Measured("width 32", 300_000, 40_000)])
    assert [(each.change, each.name) for each in found[:4]] == [
        ("runtime", "ahead-of-time"),
        ("runtime", "reference"),
        ("variant", "int4"),
        ("model", "width 32"),
    ]
    assert {each.change for each in found[4:]} == {"board"}
    assert all(each.fit.fits for each in found)
    assert [ORDER.index(each.change) for each in found] == sorted(ORDER.index(each.change) for each in found)
    assert found[2].words == (
        "int4: 250,000 instead of 450,000 bytes of model and 60,000 instead of 50,000 bytes of arena, "
        "flash 364,688 of 524,288 bytes, RAM 64,096 of 114,688 bytes"
    )


def test_too_much_ram_is_not_mended_by_code():
    found = remedies(F411, Measured("int8", 100_000, 120_000), [Measured("int4", 60_000, 130_000)])
    assert {each.change for each in found} == {"board"}
    assert found[0].name == found[0].fit.device == "stm32f407"  # 1 MB and 176 KB: the smallest with 124096 of RAM


def test_boards_come_from_the_smallest():
    found = remedies(BLUE_PILL, Measured("int8", 30_000, 20_000))
    sizes = [DEVICES[each.name].flash_bytes + DEVICES[each.name].usable_sram_bytes for each in found]
    assert sizes == sorted(sizes)
    assert found[0].name == "stm32f411"
    assert BLUE_PILL.name not in [each.name for each in found]


def test_variants_that_keep_most_labels_come_first_and_say_what_they_cost():
    current = Measured("float32", 600_000, 50_000)
    variants = [Measured("int4", 90_000, 50_000, agreement=0.9), Measured("int8", 160_000, 50_000, agreement=0.995)]
    found = [each for each in remedies(F411, current, variants) if each.change == "variant"]
    assert [each.name for each in found] == ["int8", "int4"]
    assert found[0].words.endswith("it gives the same label for 99.5% of the records")


def test_of_smaller_models_the_largest_comes_first():
    models = [Measured(f"width {width}", width * 10_000, 50_000) for width in (8, 32, 16)]
    found = remedies(F411, Measured("width 64", 640_000, 50_000), models=models)
    assert [each.name for each in found if each.change == "model"] == ["width 32", "width 16", "width 8"]


def test_more_kinds_of_operators_need_more_code():
    current = Measured("int8", 300_000, 50_000, operators=20)  # 229376 bytes of code: 5088 too many
    assert remedies(F411, current)
    assert remedies(F411, Measured("int8", 300_000, 50_000)) == []


@pytest.mark.parametrize("size", [10**9])
def test_where_nothing_helps_there_is_no_remedy(size):
    assert remedies(F411, Measured("int8", size, size), [Measured("int4", size // 2, size)]) == []
