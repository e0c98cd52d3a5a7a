"""Task-vector geometry: what fine-tuning did to the weights, and how the specialists' changes stand to each other.

A task vector is tau_k = theta_k - theta_0, a model's weights minus those of the common ancestor. Files are read block
by block and no model is ever run. :mod:`sums` has the measures that add up over entries (norms, cosines, signs),
:mod:`alignment` those of the matrices' singular subspaces, :mod:`nulls` what chance alone would give.
"""
