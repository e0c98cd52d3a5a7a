"""Methods on the singular values and vectors of task matrices."""

from langmerge.catalogue.parameters import Method

METHODS: tuple[Method, ...] = ()
