"""One module for each language of the embedded corpus, found by its code."""
