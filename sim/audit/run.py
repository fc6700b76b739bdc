"""One audit from beginning to end: read the file, ask it, attack it, and write down what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import numpy as np
from jaxtyping import Bool, Int

from attacks.errors import log_error
from attacks.observation import Reference
from clients.randomness import generator
from edge.sandbox import Limits, UnusableFileError
from sim.audit import attempts, blind, folder, page, references, subject, words
from sim.audit.ask import Asked
from sim.audit.attempts import Judged, Means, Target
from sim.audit.layout import Layout
from sim.audit.recipe import Recipe, load_recipe
from sim.audit.records import Case, Files, load
from sim.audit.results import Audit, AuditAttack, Board, Data, HostAndDevice, Paired, Side, Untried
from sim.audit.subject import Subject
from sim.audit.task import Form, form
from sim.errors import InputError, shown
from sim.progress import Progress
from sim.results import Control
from sim.score import accuracy_interval, auc_difference, score
from sim.verdict import control_holds

PACKAGES = ("seepage", "torch", "numpy", "tflite-micro", "ai-edge-litert", "scikit-learn")
INSPECTION = Limits(seconds=60.0)
_CLASSES = ("classes", "binary")
_ROUNDING = 1e-4  # relative: floats that differ by less differ by the order of additions


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    model: Path
    members: Path | None = None
    nonmembers: Path | None = None
    population: Path | None = None
    devices: tuple[str, ...] = ()
    reference_models: tuple[Path, ...] = ()
    recipe: Path | None = None
    float_model: Path | None = None
    layout: Layout | None = None
    slow: bool = False
    seed: int = 1
    out: Path = Path("audits")


@dataclass(frozen=True, slots=True)
class Found:
    """What the attacks on one file came to."""

    case: Case
    data: Data
    sides: tuple[Side, Side]
    judged: list[Judged]
    untried: list[Untried]
    blind: Control
    paired: list[Paired]
    host: HostAndDevice | None
    answered: str  # what the answers to the records say of the file


@dataclass(slots=True)
class _Clock:
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = monotonic()
        yield
        self.seconds[name] = round(monotonic() - started, 2)


def audit(request: Request, progress: Progress) -> tuple[Audit, Path]:
    """Carry out an audit; returns the document and the folder it is in.

    Raises InputError for anything in the request that cannot be used: the file, the records, the options.
    """
    files, recipe, clock = _files(request), _recipe(request), _Clock(progress)
    with clock.stage("inspect"), progress.stage("reading the model in a sandbox"):
        target = subject.examine(request.model, INSPECTION)
        boards = subject.boards(target, request.devices)
    found = _attacked(request, target, files, recipe, clock) if files else None
    document = _document(request, target, boards, found, clock)
    name = folder.name_of(request.model.name, _content(request, target))
    with folder.written(request.out, name) as part:
        page.write(document, found.judged if found else [], found.case if found else None, part)
    return document, request.out / name


def _files(request: Request) -> Files | None:
    """The records' files, or None for an audit without data. Raises InputError for one file without the other."""
    if request.members is None and request.nonmembers is None:
        for option, given in (
            ("--population", request.population),
            ("--reference-model", request.reference_models),
            ("--recipe", request.recipe),
            ("--float-model", request.float_model),
        ):
            if given:
                raise InputError(f"{option} is for attacks, which need --members and --nonmembers: give both as well")
        return None
    if request.members is None or request.nonmembers is None:
        missing, why = (
            ("--members", "records that trained the model")
            if request.members is None
            else ("--nonmembers", "records like them that did not")
        )
        raise InputError(
            f"{missing} FILE.npz is missing ({why}). Attacks are measured on both; leave both out to audit the "
            "structure alone"
        )
    return Files(request.members, request.nonmembers, request.population, request.layout)


def _recipe(request: Request) -> Recipe | None:
    if request.recipe is None:
        return None
    if request.reference_models:
        raise InputError("--recipe and --reference-model: give one of them, the recipe's models are references too")
    if request.population is None:
        raise InputError("--recipe trains on records of the auditor's own: give --population FILE.npz as well")
    return load_recipe(request.recipe)


def _content(request: Request, target: Subject) -> list[bytes]:
    """Everything that the audit follows from."""
    paths = [request.members, request.nonmembers, request.population, request.recipe, request.float_model]
    paths += request.reference_models
    options = repr((request.model.name, request.devices, request.layout, request.slow, request.seed))
    return [target.model, options.encode(), *(path.read_bytes() if path else b"" for path in paths)]


def _attacked(request: Request, target: Subject, files: Files, recipe: Recipe | None, clock: _Clock) -> Found:
    subject.must_answer(target)
    case = load(files, target.ends, target.input)
    try:
        with clock.stage("ask"), clock.progress.stage(f"asking about {len(case.member):,} records"):
            model = _target(case, target, subject.fastest(target, case.candidates.x))
        with clock.stage("references"):
            known = _references(request, case, model, target, recipe, clock.progress)
            parent = _parent(request, case, target)
        means = Means(known, parent, request.slow, request.seed)
        with clock.stage("attack"):
            judged, untried = attempts.attempt(case, model, means, clock.progress)
        with clock.stage("control"), clock.progress.stage("control"):
            control, scores = _control(case, request.seed)
        host = _host(case, target, model, request.seed)
    except UnusableFileError as error:
        raise InputError(f"{request.model}: the model could not be asked about the records: {error}") from error
    rows = [each.result for each in judged]
    paired = _paired(case, judged, control, scores, request.seed)
    data = _data(case, model, known, request)
    sides = _sides(case, model)
    return Found(case, data, sides, judged, untried, control, paired, host if rows else None, _constant(case, model))


def _target(case: Case, file: Subject, asked: Asked) -> Target:
    """The file with its answers to all records, read as what they are."""
    raw = _finite(case, file, asked)
    _repeated(case, file, asked)
    return Target("file", asked, form(case.task, file.ends, raw))


def _finite(case: Case, file: Subject, asked: Asked) -> np.ndarray:
    """A model's numbers for the candidates. Raises InputError where it answers NaN or infinity to any record."""
    raw = asked(case.candidates.joined(case.population).x)
    if bad := int((~np.isfinite(raw)).any(axis=1).sum()):
        raise InputError(
            f"{file.path}: answers {bad:,} of {len(raw):,} records with NaN or infinity; nothing to attack"
        )
    return raw[: len(case.member)]


def _repeated(case: Case, file: Subject, asked: Asked) -> None:
    """Ask a few records again, the last first. Raises InputError where an answer depends on more than its record."""
    few = case.candidates.x[: subject.SAMPLE]
    again = subject.asked(file, asked.runtime)(few[::-1])[::-1]
    if differing := int((again != asked(few)).any(axis=1).sum()):
        raise InputError(
            f"{file.path}: answers {differing} of {len(few)} records otherwise when they are asked again in another "
            "order: it keeps a state or draws random numbers in a way that is not known here; nothing to attack"
        )


def _constant(case: Case, model: Target) -> str:
    """A sentence for a model that answers all records alike; else nothing."""
    raw = model.asked(case.candidates.x)
    if (raw != raw[0]).any():
        return ""
    return (
        f"It answers the same to all {len(raw):,} records, so nothing can be told from it and it is of no use: a layer "
        "that was dead on the calibration records does that, and so do records in other units than it was trained on."
    )


def _references(
    request: Request, case: Case, model: Target, target: Subject, recipe: Recipe | None, progress: Progress
) -> tuple[Reference, ...]:
    if recipe is not None:
        return references.from_recipe(recipe, model.form, target.ends, case.population, request.seed, progress)
    given = [(each, _other(each, target, "--reference-model")) for each in request.reference_models]
    files = [(subject.asked(other), other.ends) for _, other in given]
    for (_, other), (asked, _) in zip(given, files, strict=True):
        _finite(case, other, asked)
    return references.from_files(files, model.form, case.candidates.x, len(case.population))


def _parent(request: Request, case: Case, target: Subject) -> Target | None:
    if request.float_model is None:
        return None
    other = _other(request.float_model, target, "--float-model")
    parent = _target(case, other, subject.asked(other))
    return Target("float model", parent.asked, parent.form)


def _other(path: Path, target: Subject, option: str) -> Subject:
    """A second model, which must take and give what the first does. Raises InputError."""
    other = subject.examine(path, INSPECTION, option)
    subject.must_answer(other, option)
    if other.model == target.model:
        raise InputError(f"{option} {path}: the same bytes as the audited file. Give another model")
    if (other.ends.takes, other.ends.size) != (target.ends.takes, target.ends.size):
        raise InputError(
            f"{option} {path}: takes {other.ends.takes} and gives {other.ends.gives}; the audited file takes "
            f"{target.ends.takes} and gives {target.ends.gives}. Both must be alike"
        )
    return other


def _control(case: Case, seed: int) -> tuple[Control, attempts.Scores]:
    scores = blind.scores(case, generator(seed, "audit", "blind"))
    nobody = np.zeros(len(scores), dtype=np.int64)
    found = score(scores, case.member, case.person, nobody, generator(seed, "audit", "bootstrap", "blind"))
    return Control(attack="data only", auc=found.auc, auc_ci=found.auc_ci), scores


def _host(case: Case, file: Subject, device: Target, seed: int) -> HostAndDevice | None:
    """LiteRT beside the device, on all candidates; None where only one of the two takes the file."""
    if device.asked.runtime == "litert" or "litert" not in file.runtimes:
        return None
    x, y = case.candidates.x, case.candidates.y
    there, here = device.asked(x), subject.asked(file, "litert")(x)
    apart = np.abs(here.astype(np.float64) - there)
    differing = (apart > (0.0 if file.ends.step else _ROUNDING * (1 + np.abs(there)))).any(axis=1)
    read, classes = device.form.read, case.task in _CLASSES
    labels = int((read(here).argmax(axis=1) != read(there).argmax(axis=1)).sum()) if classes else None
    first, second = (_plain(device.form, raw, y) for raw in (there, here))
    rng = generator(seed, "audit", "bootstrap", "host")
    change = auc_difference(first, second, case.member, case.person, rng)
    return HostAndDevice(
        inputs="the records",
        records=len(x),
        rows_differing=int(differing.sum()),
        labels_differing=labels,
        largest_difference=float(apart.max()),
        attack="loss" if classes else "error",
        auc_difference=change.difference,
        auc_difference_ci=change.ci,
    )


def _plain(form: Form, raw: np.ndarray, y: np.ndarray) -> attempts.Scores:
    """The plainest attack's scores: minus the loss, or minus the log error."""
    from attacks import signals

    if form.task in _CLASSES:
        return -signals.loss(form.read(raw), y, form.output, form.resolution)
    return -log_error(raw, y, form.resolution)


def _sides(case: Case, model: Target) -> tuple[Side, Side]:
    if case.task in _CLASSES:
        right = attempts.right(case, model)
        first, second = (_accuracy(right[side], case.candidates.y[side]) for side in (case.member, ~case.member))
        return first, second
    squared = (model.asked(case.candidates.x).astype(np.float64) - case.candidates.y) ** 2
    errors = np.sqrt(squared.mean(axis=1))
    first, second = (
        Side(records=int(side.sum()), accuracy=None, accuracy_ci=None, median_error=float(np.median(errors[side])))
        for side in (case.member, ~case.member)
    )
    return first, second


def _accuracy(right: Bool[np.ndarray, " records"], y: Int[np.ndarray, " records"]) -> Side:
    correct, records = int(right.sum()), len(right)
    return Side(
        records=records,
        accuracy=correct / records,
        accuracy_ci=accuracy_interval(correct, records),
        commonest_class=float(np.unique(y, return_counts=True)[1].max() / records),
        median_error=None,
    )


def _paired(case: Case, judged: list[Judged], control: Control, scores: attempts.Scores, seed: int) -> list[Paired]:
    """The float model beside the file; and, where the control succeeded, the strongest attack beside it."""
    found = {(each.result.model, each.result.attack): each for each in judged}
    pairs = [
        ("float model", before.scores, after)
        for (model, attack), before in found.items()
        if model == "float model" and (after := found.get(("file", attack)))
    ]
    top = words.strongest([each.result for each in judged])
    if top is not None and not control_holds(control):
        pairs.append(("blind control", scores, found[top.model, top.attack]))
    return [_pair(case, before, first, after, seed) for before, first, after in pairs]


def _pair(case: Case, before: str, first: attempts.Scores, after: Judged, seed: int) -> Paired:
    rng = generator(seed, "audit", "bootstrap", "paired", before)
    change = auc_difference(first, after.scores, case.member, case.person, rng)
    row = after.result
    return Paired(attack=row.attack, before=before, after=row.model, auc_difference=change.difference, ci=change.ci)


def _data(case: Case, model: Target, known: tuple[Reference, ...], request: Request) -> Data:
    return Data(
        task=case.task,
        answers=model.form.words,
        resolution=model.form.resolution,
        runtime=model.asked.runtime,
        members=int(case.member.sum()),
        nonmembers=int((~case.member).sum()),
        population=len(case.population),
        people=case.people,
        people_on_both_sides=case.straddling,
        references=len(known),
        references_from="recipe" if request.recipe else "files" if known else "none",
        notes=list(case.notes),
    )


def _drawn(target: Subject) -> HostAndDevice | None:
    """Host and device on random numbers, as the inspection compared them."""
    found = target.found.tried("litert")
    if found is None or found.rows_differing is None or not target.found.device_model:
        return None
    step = target.ends.step or 1.0
    return HostAndDevice(
        inputs="random numbers",
        records=target.found.records,
        rows_differing=found.rows_differing,
        labels_differing=found.labels_differing,
        largest_difference=(found.largest_difference or 0.0) * step,
        attack=None,
        auc_difference=None,
        auc_difference_ci=None,
    )


def _document(request: Request, target: Subject, boards: list[Board], found: Found | None, clock: _Clock) -> Audit:
    structure = subject.structure(target, found.answered if found else "")
    data, host = (found.data, found.host) if found else (None, _drawn(target))
    rows: list[AuditAttack] = [each.result for each in found.judged] if found else []
    untried, control = (found.untried, found.blind) if found else ([], None)
    sides, paired = (found.sides, found.paired) if found else (None, [])
    verdict = words.verdict(data, sides, rows, control)
    return Audit(
        model=subject.model_file(target),
        verdict=verdict,
        summary=words.summary(shown(request.model.name), verdict, structure, boards, sides, rows, control),
        findings=words.findings(structure, boards, host, data, sides, rows, untried, control, paired),
        structure=structure,
        runtimes=subject.checks(target),
        boards=boards,
        host_and_device=host,
        data=data,
        members=sides[0] if sides else None,
        nonmembers=sides[1] if sides else None,
        attacks=rows,
        untried=untried,
        blind=control,
        paired=paired,
        seed=request.seed,
        versions={package: version(package) for package in PACKAGES},
        timing=clock.seconds,
    )
