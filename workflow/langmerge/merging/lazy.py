"""torch, imported when it is first used: a merge in the loops of `langmerge.merging.fused` never does.

Importing it takes more CPU time than such a merge of a small model. `from langmerge.merging.lazy import torch` instead
of `import torch` is all that a module needs, with `Tensor` imported for the type checker only.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

_threads: int | None = None


def use_threads(number: int) -> None:
    """Have torch use so many threads, now or once it is imported."""
    global _threads
    _threads = number
    if "torch" in sys.modules:
        torch.set_num_threads(number)


def device_type(device: "torch.device | str") -> str:
    """ "cpu" or "cuda", of a device or its name (cuda:0)."""
    return str(device).partition(":")[0]


if TYPE_CHECKING:
    import torch
else:

    class _Torch:
        def __getattr__(self, name: str) -> Any:
            first = "torch" not in sys.modules
            module = import_module("torch")
            if first and _threads:
                module.set_num_threads(_threads)
            value = getattr(module, name)
            setattr(self, name, value)  # found without this function from now on
            return value

    torch = _Torch()
