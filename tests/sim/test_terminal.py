"""What is printed obeys nobody: text from scenarios, data, names and documents cannot speak to a terminal."""

import io
import json

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sim.errors import repeated, shown
from sim.terminal import Terminal, print_json

EVIL = "\x1b]0;PWN\x07\x1b[2J\x9b31m\u202e\udcff\x08[bold]x[/] :bomb:"


def printed(*things):
    console = Terminal()
    console.file = io.StringIO()
    for thing in things:
        console.print(thing)
    return console.file.getvalue()


def test_text_in_any_wrapping_is_only_text():
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    for thing in (EVIL, Text(EVIL), table, Panel(EVIL, title=Text(EVIL))):
        said = printed(thing)
        assert all(character.isprintable() or character == "\n" for character in said)
        assert "PWN" in said and "💣" not in said
    assert "[bold]x[/] :bomb:" in printed(EVIL) and printed("a\nb") == "a\nb\n"


def test_the_program_s_own_colours_stay():
    console = Terminal()
    segments = list(console.render(Text(f"{EVIL}", style="red")))
    assert any(segment.style and segment.style.color for segment in segments)
    assert not any("\x1b" in segment.text for segment in segments)


def test_a_json_document_is_ascii_and_says_the_same(capsys):
    for document in ({"a": EVIL}, json.dumps({"a": EVIL}, indent=2, ensure_ascii=False)):
        print_json(document)
        said = capsys.readouterr().out
        assert all(" " <= character <= "~" or character == "\n" for character in said)
        assert json.loads(said) == {"a": EVIL}


def test_what_a_message_repeats_is_short_and_safe():
    assert shown("a\x1b[2J\nb") == "a?[2J?b" and len(shown("x" * 10_000, 100)) < 130
    assert repeated("a\nb") == '"a\\nb"' and repeated(float("nan")) == "NaN" and len(repeated(["x"] * 9_999)) < 250
    assert repeated(16**5_000) == "a number of thousands of digits"


@pytest.mark.parametrize(
    "words",
    [
        [EVIL.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")],
        ["run", EVIL],
        ["run", "x.toml", f"--{EVIL}"],
        ["run", "x.toml", "--set", EVIL],
        ["run", "x.toml", "--engine", EVIL],
        ["report", EVIL],
        ["attack", "x" * 5_000],
        ["export", EVIL, "--model", EVIL],
        ["budget", f"{EVIL}.toml"],
        ["budget", "x" * 5_000],
        ["audit", EVIL],
        ["audit", "x" * 5_000, "--members", EVIL, "--nonmembers", EVIL],
        ["list", EVIL],
        ["run", "[/red].toml"],
    ],
    ids=range(14),
)
def test_a_wrong_word_ends_with_2_in_every_command(words, seepage):
    said = seepage(*words)
    assert said.code == 2 and "broke inside" not in said.err
    assert not set(said.out + said.err) & set("\x1b\x07\x9b\u202e\x08")
