"""Corpora: readers, the embedded corpus, splits and packing."""
