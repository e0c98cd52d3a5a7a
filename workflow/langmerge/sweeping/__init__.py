"""Merges that are only scored: made in memory, tuned on dev, the chosen one reported on test.

May import merging and evaluation.
"""
