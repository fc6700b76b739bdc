"""The schema that is shipped is the schema of what is written."""

import jsonschema
import pytest

from sim.schema import FILE, json_schema


def test_the_shipped_schema_is_current():
    assert FILE.read_text() == json_schema(), "write it again: .venv/bin/python -m sim.schema"


def test_it_is_a_schema_and_refuses_what_is_none_of_ours(results_schema):
    jsonschema.Draft202012Validator.check_schema(results_schema)
    with pytest.raises(jsonschema.ValidationError, match="required"):
        jsonschema.validate({"schema": "seepage/results/1"}, results_schema)
