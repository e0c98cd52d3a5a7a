"""The embedded corpus: meanings sampled from a small world, rendered by rule-based grammars of real languages."""
