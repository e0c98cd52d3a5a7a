"""Merging LoRA adapters into an adapter, from their thin factors; see `langmerge.catalogue.lora` for the methods."""

from langmerge.merging.lora.adapter import Adapter
from langmerge.merging.lora.merge import MergedAdapter, merge_adapters, write_adapter

__all__ = ["Adapter", "MergedAdapter", "merge_adapters", "write_adapter"]
