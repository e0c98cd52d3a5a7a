"""Loss barriers, a loss plane, Fisher overlap and gradient alignment of the specialists of a direction group.

One job for each direction group. L_k is the loss of language k: -log2 p(target | prompt), summed over the tokens of the
target spans of its sentences, over their UTF-8 bytes (bits per byte). ``own`` languages of a specialist are the one it
was trained on; the base has none. Tables:

- ``losses.csv``: L_k of the base and every specialist; the base's is a predictor of what merging does.
- ``line.csv``, ``barriers.csv``: L_k along the straight line between two models (:mod:`.line`).
- ``plane.csv``: L_k on the plane through three models (:mod:`.plane`).
- ``fisher.csv``: overlap of diagonal Fisher information, of specialists at their own weights and at the base's
  (:mod:`.fisher`).
- ``gradients.csv``: alignment of the languages' gradients at the base (:mod:`.alignment`).
- ``summary.json``: models, sentences, distances between models, coordinates on the plane.
"""
