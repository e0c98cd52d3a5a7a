"""Columns of the CSV files of a survey."""

from __future__ import annotations

COLUMNS = {
    "losses": ("model", "language", "loss", "low", "high", "n", "tokens", "bytes"),
    "line": ("model_a", "model_b", "language", "a", "loss", "excess", "low", "high", "n"),
    "barriers": ("model_a", "model_b", "language", "measure", "value", "low", "high", "at", "n"),
    "plane": ("x", "y", "model", "language", "loss", "n"),
    "fisher": ("at", "language_a", "language_b", "layer", "measure", "value", "null", "ceiling", "n"),
    "gradients": (
        *("language_a", "language_b", "layer", "measure", "value", "low", "high", "null", "ceiling"),
        *("n", "blocks"),
    ),
}
