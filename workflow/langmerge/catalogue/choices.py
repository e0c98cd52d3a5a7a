"""Methods that choose, entry by entry, whose change counts."""

from langmerge.catalogue.parameters import Method

METHODS: tuple[Method, ...] = ()
