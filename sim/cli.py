"""The `seepage` command. Heavy libraries are imported inside the commands, so that help is there at once."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from typer.rich_utils import rich_format_error

from sim.errors import InputError, shown
from sim.terminal import Terminal, print_json, tolerate_any_text

if TYPE_CHECKING:
    from edge.config import Variant
    from sim.folder import RunFolder
    from sim.progress import Progress
    from sim.results import Results
    from sim.study.results import StudyResults

WRONG_INPUT, BROKEN, INTERRUPTED = 2, 3, 130
_SURROUNDINGS = (  # what no code here can help: no room, no permission, a disk that fails, a folder for a file
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE),
    *(errno.EISDIR, errno.ENOTDIR),
)

app = typer.Typer(
    name="seepage",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="What do your federated and on-device models give away about the people whose data trained them, and to whom?"
    "\n\nStart with: `seepage run scenarios/quickstart.toml`",
)


class EngineName(StrEnum):
    """Where the Flower apps run."""

    INPROCESS = "inprocess"
    RAY = "ray"


class Kind(StrEnum):
    """What `seepage list` can list."""

    DATASETS = "datasets"
    MODELS = "models"
    ATTACKS = "attacks"
    DEFENCES = "defences"
    DEVICES = "devices"
    SCENARIOS = "scenarios"
    SETTINGS = "settings"


class LayoutName(StrEnum):
    """Where the channels of a record are."""

    LAST = "channels-last"
    FIRST = "channels-first"


class VariantName(StrEnum):
    """The ways to quantise that a scenario can name."""

    INT8 = "int8"
    INT8_PER_TENSOR = "int8-per-tensor"
    INT16X8 = "int16x8"
    INT4 = "int4"


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a scenario value, e.g. `--set federation.rounds=5`."),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, e.g. runs/quickstart-1a2b3c4d.")]


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Flower's own log.")] = False,
) -> None:
    _quieten(debug)


@app.command("run")
def run_command(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="A scenario file, e.g. scenarios/quickstart.toml.")
    ],
    sets: Sets = None,
    engine: Annotated[
        EngineName, typer.Option(help="`inprocess` starts at once; `ray` is Flower's own simulation.")
    ] = EngineName.INPROCESS,
    out: Annotated[Path, typer.Option(help="Folder for run folders.")] = Path("runs"),
    again: Annotated[
        bool, typer.Option("--again", help="Run afresh, and replace what an earlier run of the same left there.")
    ] = False,
    json: Json = False,
) -> None:
    """Federate, personalise, export, attack, and report: the whole path of one scenario.

    Writes `runs/NAME-HASH/` as it goes; `results.json` and `report.html` come last. A scenario with a `[study]` table
    is run once per variant and seed, into folders of their own in there; `study.json` has what they say together. What
    is finished already is shown, not run again.
    """
    from sim import run
    from sim.scenario import load_scenario
    from sim.study import run as study

    loaded = load_scenario(scenario, sets or ())
    verb = run.run if loaded.study.single else study.run
    _show(json, *verb(loaded, engine.value, out, _progress(), again=again))


@app.command("attack")
def attack_command(run: RunPath, sets: Sets = None, json: Json = False) -> None:
    """Attack a finished run again and rewrite its results and report. No target model is trained again.

    `--set` can change settings of the attacks alone, e.g. `--set attacks.references=8`.
    """
    from sim.run import attack_again
    from sim.stored import is_study
    from sim.study import run as study

    if is_study(run):
        if sets:
            raise InputError(f"--set: {run} is a study; change the attacks of one of its runs")
        _show(json, *study.attack(run, _progress()))
    else:
        _show(json, *attack_again(run, sets or (), _progress()))


@app.command("report")
def report_command(run: RunPath, json: Json = False) -> None:
    """Print a finished run's table and write its `report.html` again, from the stored scores alone."""
    from sim.run import report
    from sim.stored import is_study
    from sim.study import run as study

    _show(json, *(study.report(run) if is_study(run) else report(run)))


@app.command("verify")
def verify_command(run: RunPath, json: Json = False) -> None:
    """Say whether everything in a run folder is as it was written, and its data still the same; exit code 2 if not."""
    from sim.stored import verify

    found = verify(run)
    if json:
        print_json(found.document(run))
    else:
        Terminal(soft_wrap=True).print(found.text(run), highlight=False)
    if found.differences:
        sys.exit(WRONG_INPUT)


@app.command("export")
def export_command(
    run: RunPath,
    model: Annotated[str, typer.Option(help="`global`, or a client's number.")] = "global",
    variant: Annotated[
        VariantName | None, typer.Option(help="How it is quantised; by default as the scenario ships it.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="The board, by default the scenario's; see `seepage list devices`.")
    ] = None,
    firmware: Annotated[
        str | None,
        typer.Option(
            metavar="CORE",
            help="Also build firmware for `cortex-m4`, `cortex-m7` or `cortex-m3` and run it in an emulator: are its "
            "answers TFLite Micro's, and how many instructions does it take?",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for bundles; by default RUN/bundles.")] = None,
    json: Json = False,
) -> None:
    """Write what ships: the `.tflite` file, a C array, and a manifest with a model card that says where it comes from,
    what it costs on the board, what was promised, and what attackers got out of it.
    """
    from sim.bundle import export_bundle, render
    from sim.stored import whole

    chosen: Variant | None = variant.value if variant else None
    with whole(run) as (folder, scenario):
        made = export_bundle(scenario, folder, model, chosen, device, firmware, out, _progress().say)
    if json:
        document = made.manifest.model_dump(mode="json", by_alias=True) | {"emulated": made.emulated}
        print_json(document)
        return
    render(made, Terminal())


@app.command("budget")
def budget_command(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="A scenario file, e.g. scenarios/dp-record.toml.")
    ],
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Say what epsilon a scenario's plan would spend, per unit and vantage, without running it."""
    from sim.budgets import plan
    from sim.data.federation import noted
    from sim.given import federation_of
    from sim.scenario import load_scenario
    from sim.study.plan import parts
    from sim.table import render_plan

    loaded = load_scenario(scenario, sets or ())
    first = {part.variant: part.scenario for part in reversed(parts(loaded))}  # its seed changes nothing of substance
    for note in dict.fromkeys(note for each in first.values() for note in noted(federation_of(each))):
        Terminal(stderr=True).print(note, highlight=False)
    plans = {variant: plan(first[variant]) for variant in reversed(first)}
    if json:
        documents = {variant: found.model_dump(mode="json") for variant, found in plans.items()}
        document = next(iter(documents.values())) if loaded.study.single else documents
        print_json(document)
        return
    for variant, found in plans.items():
        if not loaded.study.single:
            Terminal().print(f"variant {variant}", style="bold", highlight=False)
        render_plan(found, Terminal())


@app.command("audit")
def audit_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="A TFLite file, whoever made it.")],
    members: Annotated[Path | None, typer.Option(help="Records that trained it: an .npz file with x and y.")] = None,
    nonmembers: Annotated[Path | None, typer.Option(help="Records like them that did not.")] = None,
    population: Annotated[Path | None, typer.Option(help="The attacker's own records, in neither file.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="A board it is for, by name; default: all.")] = None,
    reference_model: Annotated[
        list[Path] | None, typer.Option(help="A .tflite file like it that never saw the members; may be repeated.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A TOML file with [model] and [training], to train references by.")
    ] = None,
    float_model: Annotated[Path | None, typer.Option(help="The same model before it was quantised, .tflite.")] = None,
    layout: Annotated[LayoutName | None, typer.Option(help="How x is laid out, where both could be.")] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Also attacks that ask many questions, one by one.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for audits.")] = Path("audits"),
    json: Json = False,
) -> None:
    """Audit anybody's model file: what it is, where it fits and runs, and what it gives away about its members.

    The file is read and run in a sandbox. Without records: its structure alone. Writes `audits/NAME-HASH/` with
    `audit.json`, `scores.parquet` and `report.html`, at the end and whole.
    """
    from sim.audit import run, table

    request = run.Request(
        model=model,
        members=members,
        nonmembers=nonmembers,
        population=population,
        devices=tuple(device or ()),
        reference_models=tuple(reference_model or ()),
        recipe=recipe,
        float_model=float_model,
        layout=layout.value if layout else None,
        slow=slow,
        seed=seed,
        out=out,
    )
    document, folder = run.audit(request, _progress())
    if json:
        print_json(document.model_dump_json(by_alias=True, indent=2))
    else:
        table.render(document, Terminal(), folder)


@app.command("list")
def list_command(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything if left out.")] = None,
    json: Json = False,
) -> None:
    """List the data sets, models, attacks, defences, devices and scenarios there are, and a scenario's settings."""
    from sim.catalogue import CATALOGUE, render

    render({name: CATALOGUE[name]() for name in ([kind.value] if kind else CATALOGUE)}, Terminal(), json=json)


@app.command("doctor")
def doctor_command(json: Json = False) -> None:
    """Check what is installed, which engines and runtimes work here, and what to do about those that don't."""
    from sim.doctor import examine, render

    render(examine(), Terminal(), json=json)


def main() -> None:
    """Run the command and turn what goes wrong into an exit code and one clear message."""
    debug = "--debug" in sys.argv
    sys.argv[1:] = ["--debug"] * debug + [word for word in sys.argv[1:] if word != "--debug"]  # good in any place
    tolerate_any_text()
    errors = Terminal(stderr=True, soft_wrap=True)
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:  # a wrong word on the command line
        if not isinstance(error, click.exceptions.NoArgsIsHelpError):  # which has printed its help
            rich_format_error(click.UsageError(shown(error.format_message()), getattr(error, "ctx", None)))
        sys.exit(WRONG_INPUT)
    except InputError as error:
        errors.print(str(error), style="red", highlight=False)
        sys.exit(WRONG_INPUT)
    except OSError as error:
        if debug or error.errno not in _SURROUNDINGS:
            _broken(error, errors, debug=debug)
            sys.exit(BROKEN)
        where = f"{error.filename}: " if error.filename else ""
        errors.print(f"{where}{error.strerror}. Nothing here can go on without it", style="red", highlight=False)
        sys.exit(WRONG_INPUT)
    except Exception as error:  # noqa: BLE001  # the last resort: whatever it was becomes exit code 3
        _broken(error, errors, debug=debug)
        sys.exit(BROKEN)
    if code == INTERRUPTED:  # typer's answer to Ctrl-C
        errors.print("stopped; what was finished stays in the run folder", highlight=False)
    sys.exit(code)


def _broken(error: Exception, errors: Terminal, *, debug: bool) -> None:
    if debug:
        errors.print(traceback.format_exc(), highlight=False)
        return
    errors.print(f"something broke inside: {type(error).__name__}: {error}", style="red", highlight=False)
    errors.print("run the same command with `seepage --debug …` for the traceback", highlight=False)


def _show(json: bool, folder: RunFolder, results: Results | StudyResults) -> None:
    if json:
        print_json(results.model_dump_json(by_alias=True, indent=2))
        return
    from sim import table
    from sim.results import Results
    from sim.study import table as study

    if isinstance(results, Results):
        table.render(results, Terminal(), folder.report)
    else:
        study.render(results, Terminal(), folder.report)


def _progress() -> Progress:
    from sim.progress import Progress

    return Progress(Terminal(stderr=True))


def _quieten(debug: bool) -> None:
    """TensorFlow's and Flower's own chatter is for debugging; what fails in Flower comes to us as an exception."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    logging.getLogger("flwr").addFilter(lambda record: debug or record.levelno > logging.ERROR)
