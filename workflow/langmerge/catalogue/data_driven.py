"""Methods that weigh models by what was measured on data."""

from langmerge.catalogue.parameters import Method

METHODS: tuple[Method, ...] = ()
