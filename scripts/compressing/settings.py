"""The variables of compress.py."""

import os
import shlex
from typing import NamedTuple

from theseus.checkpoints import pretrained
from theseus.errors import UserError


class Settings(NamedTuple):
    """The values of the environment's variables."""

    data: str
    bert: str
    out: str
    layers: list
    has_layers: bool  # Whether LAYERS is set; of the default, a BERT's own depth is left out.
    keep: float
    max_ms: float
    unlabelled: str
    seed: str
    flags: list


def read_settings(environment):
    """Returns the Settings in the environment's variables; UserError if one is wrong."""
    for name in ("DATA", "BERT"):
        if not environment.get(name):
            raise UserError(
                "%s is not set; run DATA=my_data BERT=my_bert OUT=out_compressed bash "
                "scripts/compress.sh" % name
            )
    layers = sorted(_numbers(environment, "LAYERS", "6 4 3 2", int), reverse=True)
    (keep,) = _numbers(environment, "KEEP", "98", float)
    (max_ms,) = _numbers(environment, "MAX_MS", "inf", float)
    unlabelled = environment.get("UNLABELLED", "")
    if unlabelled and not os.path.isfile(unlabelled):
        raise UserError("UNLABELLED=%s: there is no such file" % unlabelled)
    if layers[-1] < 1 or len(set(layers)) < len(layers):
        raise UserError("LAYERS: takes different numbers of layers, such as 6 3")
    return Settings(
        environment["DATA"],
        environment["BERT"],
        environment.get("OUT") or "out_compressed",
        layers,
        bool(environment.get("LAYERS")),
        keep,
        max_ms,
        unlabelled,
        environment.get("SEED") or "42",
        shlex.split(environment.get("FLAGS", "")),
    )


def _numbers(environment, name, default, kind):
    """Returns the numbers in a variable, as a list; only LAYERS may have several."""
    text = environment.get(name) or default
    try:
        numbers = list(map(kind, text.split()))
    except ValueError:
        numbers = []
    if not numbers or (name != "LAYERS" and len(numbers) > 1):
        wanted = "whole numbers, such as 6 3" if name == "LAYERS" else "a number"
        raise UserError("%s=%s: give %s" % (name, text, wanted))
    return numbers


def check_places(settings):
    """Raises UserError if DATA or BERT is not a folder; BERT may also be a model of the hub."""
    if not os.path.isdir(settings.data):
        raise UserError(
            "DATA=%s: there is no such folder; give one with train, dev and perhaps test"
            % settings.data
        )
    bert = settings.bert
    if not (os.path.exists(bert) or os.path.exists(bert + ".index") or pretrained.is_hub_id(bert)):
        raise UserError(
            "BERT=%s: there is no such folder; give a BERT's folder, a checkpoint's prefix, or "
            "owner/name of the Hugging Face hub" % bert
        )
