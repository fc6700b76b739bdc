"""The attackers' reference models, answering in the form that the target answers in."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from attacks.observation import Oracle, Predictor, Records, Reference
from clients.training import logits
from clients.weights import load_vector
from edge.artifact import Artifact
from sim.export import drawn, export_bytes
from sim.given import federation_of, fresh_model
from sim.results import Precision
from sim.scenario import Scenario
from sim.shipped import HEAD, on_device

Vectors = Float[np.ndarray, "references params"]
Masks = Bool[np.ndarray, "references population"]


def population(scenario: Scenario) -> Records:
    """The attacker's own records."""
    own = federation_of(scenario).population
    return Records(own.x, own.y)


def device_references(
    scenario: Scenario, trained_on: Masks, vectors: Vectors, precision: Precision
) -> tuple[Reference, ...]:
    """Models that answer as the device does, or float models where these serve as well."""
    make = (
        float_references if float_will_do(scenario, precision) else partial(quantised_references, precision=precision)
    )
    return make(scenario, trained_on, vectors)


def float_will_do(scenario: Scenario, precision: Precision) -> bool:
    """Measured for logits with 8 bits or more; not for a softmax in steps of 1/256, nor for weights of 4 bits."""
    return scenario.edge.output == "logits" and precision != "int4"


def quantised_references(
    scenario: Scenario, trained_on: Masks, vectors: Vectors, precision: Precision
) -> tuple[Reference, ...]:
    """Exported by the same pipeline, calibrated on the attacker's own records."""
    own = drawn(scenario, population(scenario).x)
    variant = scenario.edge.variants[0] if precision == HEAD else precision
    oracles = []
    for weights in vectors:
        blob = export_bytes(scenario, load_vector(fresh_model(scenario), weights), own, variant)
        file = Artifact.from_bytes(blob, scenario.edge.output)
        oracles.append(Oracle(on_device(file), file.answers, file.resolution))
    return tuple(Reference(o, mask, weights) for o, mask, weights in zip(oracles, trained_on, vectors, strict=True))


def float_predictor(scenario: Scenario, weights: Float[np.ndarray, " params"]) -> Predictor:
    """A model of the scenario's architecture, given as flat weights."""
    model = load_vector(fresh_model(scenario), weights)
    return lambda x: logits(model, x)


def float_references(scenario: Scenario, trained_on: Masks, vectors: Vectors) -> tuple[Reference, ...]:
    """The models as they were trained."""
    # Oracles only for their notes: many attacks ask each reference about the same records.
    return tuple(
        Reference(Oracle(float_predictor(scenario, weights)), mask, weights)
        for weights, mask in zip(vectors, trained_on, strict=True)
    )
