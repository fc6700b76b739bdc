"""What there is: the entries of every registry, as `seepage list` prints them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.terminal import print_json

Rows = list[dict[str, str]]


def _datasets() -> Rows:
    from sim.data.registry import DATASETS

    return [
        {
            "name": name,
            "what": entry.title,
            "clients": "if the file says" if entry.natural is None else "natural" if entry.natural else "simulated",
            "kind": {True: "synthetic", False: "real", None: "what data.synthetic says"}[entry.synthetic],
            "get it": entry.how,
        }
        for name, entry in DATASETS.items()
    ]


def _models() -> Rows:
    from clients.models import MODELS

    return [
        {"name": name, "what": entry.title, "width": str(entry.width), "task": entry.task}
        for name, entry in MODELS.items()
    ]


def _attacks() -> Rows:
    from attacks.audited import AUDITED
    from attacks.calibration_set import CALIBRATION_RANGES
    from attacks.recoveries import RECOVERIES
    from attacks.registry import ATTACKS

    rows = [(a.name, a.title, a.needs[-1], a.source) for a in ATTACKS.values()]
    rows += [(a.name, a.title, f"{a.needs[-1]}; in `seepage audit`", a.source) for a in AUDITED.values()]
    rows += [(r.name, r.title, r.needs, r.source) for r in RECOVERIES.values()]
    ranges = CALIBRATION_RANGES
    rows.append((ranges.name, ranges.title, "nothing: runs unless edge.calibration is population", ranges.source))
    return [dict(zip(("name", "what", "needs", "source"), row, strict=True)) for row in rows]


def _defences() -> Rows:
    from sim.defences import DEFENCES

    return [{"set": d.setting, "what": d.title, "against": d.against, "source": d.source} for d in DEFENCES]


def _devices() -> Rows:
    from edge.devices import DEVICES, Device

    def processor(device: Device) -> str:
        has = [device.npu or "", "floating point" if device.fpu else "", "DSP" if device.dsp else ""]
        return ", ".join([device.core, f"{device.clock_mhz} MHz", *filter(None, has)])

    return [
        {
            "name": name,
            "what": device.title,
            "processor": processor(device),
            "flash": f"{device.flash_bytes // 1024:,} KB{', external' if device.external_flash else ''}",
            "usable RAM": f"{device.usable_sram_bytes // 1024:,} of {device.sram_bytes // 1024:,} KB",
            "source": device.source,
        }
        for name, device in DEVICES.items()
    ]


def _scenarios() -> Rows:
    from sim.scenario import load_scenario, shipped_scenarios

    loaded = [(path, load_scenario(path)) for path in shipped_scenarios()]
    return [
        {"name": scenario.name, "what": scenario.title, "file": f"scenarios/{path.name}"} for path, scenario in loaded
    ]


def _settings() -> Rows:
    from sim.scenario import Scenario

    return list(_fields(Scenario, ""))


def _fields(model: type[BaseModel], prefix: str) -> Iterator[dict[str, str]]:
    from sim.scenario import table_of

    for name, field in model.model_fields.items():
        table = table_of(field.annotation)
        if table:
            yield from _fields(table, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
            yield {"name": f"{prefix}{name}", "default": default, "what": field.description or ""}


CATALOGUE: dict[str, Callable[[], Rows]] = {
    "datasets": _datasets,
    "models": _models,
    "attacks": _attacks,
    "defences": _defences,
    "devices": _devices,
    "scenarios": _scenarios,
    "settings": _settings,
}


def render(listing: dict[str, Rows], console: Console, *, json: bool) -> None:
    """Print one table per kind, or everything as one JSON document."""
    if json:
        print_json(listing)
        return
    for kind, rows in listing.items():
        table = Table(title=kind, title_justify="left", box=None, pad_edge=False)
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row.values()))  # as Text, since rich reads square brackets as markup
        console.print(table)
        console.print()
