"""Methods of this project, made for merging languages."""

from langmerge.catalogue.parameters import Method

METHODS: tuple[Method, ...] = ()
