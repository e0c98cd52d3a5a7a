"""One shared body with a small residue for each language."""

from langmerge.catalogue.parameters import Method

METHODS: tuple[Method, ...] = ()
