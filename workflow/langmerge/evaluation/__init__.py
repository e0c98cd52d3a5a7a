"""Evaluation: translate test sets with a model, score the outputs, and test differences between systems.

``python -m langmerge.evaluation`` scores one model on all its directions; ``python -m
langmerge.evaluation.comparison`` compares finished evaluations. Only :mod:`.translation` (and what decodes
with it) needs torch.
"""
