"""Analysis: what happens inside the models, on the same teacher-forced sentences.

``python -m langmerge.analysis`` measures base, specialists, joint model and merges of one direction group: pooled
representations, their similarity and the angles between their subspaces (:mod:`.representations`, :mod:`.cka`,
:mod:`.angles`), language-selective MLP neurons (:mod:`.gates`, :mod:`.neurons`). The measures are pure functions;
:mod:`.tables` turns them into the rows of the result's CSV files.
"""
