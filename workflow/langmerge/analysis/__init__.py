"""Analysis: what happens inside the models, from their stored observations; no model runs here.

``python -m langmerge.analysis`` compares base, specialists, joint model and merges of one direction group: similarity
of their representations and angles between their subspaces (:mod:`.cka`, :mod:`.angles`), language-selective units at
every observed site (:mod:`.neurons`, :mod:`.selection`, :mod:`.precision`) and rows of the embedding
(:mod:`.embedding`). The measures are pure functions; :mod:`.tables` and :mod:`.units` turn them into rows of CSV files:

- ``cka``, ``angles``, ``mds``: representations, of every two models by direction, span and layer;
- ``units``, ``layers``, ``overlaps``: selective units by model, span, site, ranking, language and layer; where over
  depth they lie; what two languages share;
- ``flows``, ``turnovers``: what becomes of the baseline's units;
- ``similarity``, ``languages``: further measures between models, and between languages inside a model;
- ``redistribution``, ``verdicts``: whether fine-tuning sharpens units or redistributes them;
- ``neurons``, ``turnover``: the same of gate events in the headline ranking; ``usage``: alignment of firing rates;
- ``embedding_rows``, ``embedding_tokens``: tokens that are one language's own.
"""
