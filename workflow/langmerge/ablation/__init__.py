"""Ablation: what a language's units do, found by switching them off.

Units that fire in one language need not matter to it. ``python -m langmerge.ablation`` sets the units of each language
to zero and measures, in every language, by how many bits per byte the target becomes less likely, beside as many random
units of the same layers that fire as often. Forward passes alone; nothing is trained.
"""
