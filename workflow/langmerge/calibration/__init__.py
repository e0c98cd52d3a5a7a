"""What is measured of models on a little data, for merging: a folder of safetensors for each model and kind.

- ``fisher``: diagonal Fisher information, a tensor of the parameter's name and shape for each parameter.
- ``gram``: mean of x x^T over the input tokens x of each linear map, ``[d_in, d_in]`` under the name of its weight.
- ``token_counts``: ``counts`` [V], how often each token occurs in the training text of a language.
- ``similarity``: ``cka`` [L + 1, n, n], debiased linear CKA of n models layer by layer; ``models.json`` names them.
"""
