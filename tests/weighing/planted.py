"""States of small models, task vectors to plant in them, and tables to read."""

import csv

import torch

SHAPES = {
    "model.embed_tokens.weight": (30, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 12),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.10.self_attn.q_proj.weight": (8, 8),
    "model.layers.10.mlp.down_proj.weight": (8, 12),
    "model.layers.10.input_layernorm.weight": (8,),
    "model.norm.weight": (8,),
}


def random_state(seed, scale=1.0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def plus(base, *deltas):
    return {name: base[name] + sum(delta[name] for delta in deltas) for name in base}


def rows(path):
    """A table as a list of rows with numbers as floats, empty cells as NaN."""

    def value(name, text):
        if name in ("value", "low", "high", "n", "null", "null_n", "null_sd"):
            return float(text) if text else float("nan")
        return text

    with path.open(encoding="utf-8", newline="") as file:
        return [{name: value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def pick(table, **wanted):
    """The one row with these cells."""
    (row,) = (row for row in table if all(row[name] == value for name, value in wanted.items()))
    return row


GLOBAL = {"scope": "global", "layer": "", "module": ""}
