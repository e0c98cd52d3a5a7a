"""What several tests of plans need."""


def changed(values, path, new):
    """``values`` with the dotted ``path`` set to ``new``."""
    head, _, rest = path.partition(".")
    return {**values, head: changed(values.get(head) or {}, rest, new) if rest else new}
