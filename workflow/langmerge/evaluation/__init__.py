"""Evaluation: let a model translate, answer and judge; score it, and test differences between systems.

``python -m langmerge.evaluation`` scores one model in all its directions and tasks; ``python -m
langmerge.evaluation.comparison`` compares finished evaluations; ``python -m langmerge.evaluation.harness`` runs
lm-evaluation-harness. Only :mod:`.translation` and :mod:`.likelihood` (and what uses them) need torch.
"""
