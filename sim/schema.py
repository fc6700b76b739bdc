"""The JSON Schema of `results.json`, made from its type. `python -m sim.schema` writes the shipped file again."""

from __future__ import annotations

import json
from pathlib import Path

from sim.results import Results

FILE = Path(__file__).with_name("results.schema.json")


def json_schema() -> str:
    """The schema as `results.schema.json` holds it."""
    return json.dumps(Results.model_json_schema(by_alias=True, mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(json_schema())
