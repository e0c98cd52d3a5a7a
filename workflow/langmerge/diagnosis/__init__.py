"""How near two models are: in their weights, in the loss between them, in what they represent.

One job for the pairs of a study: models a and b of one architecture, with the languages l(a) and l(b) whose sentences
are parallel by id. Measures by name, in ``pairs.csv`` (a, b, measure, value, low, high; 95 % intervals where a measure
is over sentences, else empty):

- weights (:mod:`.parameters`): ``distance``, ``distance.relative``; with a base also ``cosine``, ``norm_ratio``,
  ``sign_conflict``, ``sign_conflict.magnitude``, ``elect_loss``, ``subspace.ratio``, ``subspace.excess``.
- loss on the line from a to b (:mod:`.losses`): ``barrier.a``, ``barrier.b``, ``barrier.mean`` on the sentences of
  l(a), of l(b), and in the mean of both; ``midpoint.a``, ``midpoint.b``, ``midpoint.mean``, the signed rise above the
  chord half-way.
- gradients of the languages' losses at the base (:mod:`.losses`): ``gradient.cosine``, ``gradient.cosine_debiased``.
- representations (:mod:`.representations`): ``cka.own`` (each model reads its own language), ``cka.a`` and ``cka.b``
  (both read l(a), l(b)), ``activation.own``, ``activation.a``, ``activation.b`` (overlap of principal subspaces).

``layers.csv`` (a, b, measure, layer, value): layer 0 is the embedding and l the l-th block, its output for
representations and its weights for weights; final norm and head have no row. In ``pairs.csv``, measures of
representations are means over layers, those of weights are of all weights as one vector (subspaces: means over
matrices). ``curve.csv`` (a, b, language, alpha, bits_per_byte): the loss at (1 - alpha) a + alpha b.
"""
