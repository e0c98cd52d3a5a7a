"""Merge files: what is to be merged, written in YAML (ours or mergekit's), and what is written beside the weights."""
