"""Merging models in weight space: streamed, exact, many variants in one pass."""

from langmerge.garbage import without_collection

with without_collection():
    from langmerge.merging.engine import Merge, Piece
    from langmerge.merging.recipe import Recipe
    from langmerge.merging.sinks import Merged, state_dicts, write_into, write_models

__all__ = ["Merge", "Merged", "Piece", "Recipe", "state_dicts", "write_into", "write_models"]
