"""The C array compiles without a warning, as C and as C++, and holds the very bytes."""

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bundle.c_array import header, source, symbol

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
LANGUAGES = {"c": ["-x", "c", "-std=c11"], "c++": ["-x", "c++", "-std=c++11"]}
MAIN = """
#include <stdint.h>
#include <stdio.h>
#include "{name}.h"
int main(void) {{
    if ((uintptr_t){array} % 16 != 0) return 1;
    return fwrite({array}, 1, {array}_len, stdout) == {array}_len ? 0 : 2;
}}
"""


@pytest.fixture
def written(tmp_path):
    def write(model: bytes, name: str = "personal-0003"):
        (tmp_path / f"{name}.cc").write_text(source(name, model))
        (tmp_path / f"{name}.h").write_text(header(name, model))
        return tmp_path

    return write


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_host_reads_the_bytes_back_aligned(model, written, language, lacking):
    if shutil.which("g++") is None:
        lacking("no host compiler; get it with `apt-get install g++`")
    folder = written(model)
    (folder / "main.c").write_text(MAIN.format(name="personal-0003", array="personal_0003_model"))
    compiler = "g++" if language == "c++" else "gcc"
    built = [compiler, *LANGUAGES[language], *STRICT, "main.c", "personal-0003.cc", "-o", "main"]
    subprocess.run(built, cwd=folder, check=True, capture_output=True)
    assert subprocess.run([folder / "main"], check=True, capture_output=True).stdout == model


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_cortex_m_compiler_puts_the_bytes_in_flash_aligned(model, written, language, lacking):
    if shutil.which("arm-none-eabi-gcc") is None:
        lacking("no compiler for Cortex-M; get it with `apt-get install gcc-arm-none-eabi`")
    folder = written(model)
    target = ["-mcpu=cortex-m4", "-mthumb", "-O2", "-ffreestanding", "-c", "personal-0003.cc", "-o", "model.o"]
    subprocess.run(
        ["arm-none-eabi-gcc", *LANGUAGES[language], *STRICT, *target], cwd=folder, check=True, capture_output=True
    )
    copy = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".rodata", "model.o", "model.bin"]
    subprocess.run(copy, cwd=folder, check=True, capture_output=True)
    assert model in (folder / "model.bin").read_bytes()
    assert (folder / "model.bin").read_bytes().index(model) % 16 == 0
    names = subprocess.run(
        ["arm-none-eabi-nm", "model.o"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    assert " R personal_0003_model\n" in names  # read-only, and for other files to use
    assert " R personal_0003_model_len\n" in names


@given(st.binary(min_size=1, max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_byte_is_written(content):
    body = source("x", content).split("{\n")[1].split("\n}")[0]
    assert bytes(int(byte, 16) for byte in body.replace(",", " ").split()) == content
    assert f"x_model_len = {len(content)};" in source("x", content)


def test_names_become_symbols():
    assert symbol("personal-0003") == "personal_0003_model"
    assert "SEEPAGE_PERSONAL_0003_MODEL_H_" in header("personal-0003", b"x")
