"""A model made of other models' layers: stacking, repeating and leaving out layers without writing them first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from langmerge.merging.elements import Elements
from langmerge.merging.methods.layers import layer_index
from langmerge.merging.sources import Source, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Keys of config.json with the number of layers, at the top or in `text_config`."""

PER_LAYER = (
    "layer_types",
    "mlp_layer_types",
    "attention_layers",
    "layers_block_type",
    "block_types",
    "no_rope_layers",
)
"""Keys with one entry for each layer."""

INDICES = ("mlp_only_layers", "moe_layers", "attn_layer_indices", "cross_attention_layers")
"""Keys that list indices of layers."""

PERIODS = ("sliding_window_pattern", "full_attention_interval", "no_rope_layer_interval", "decoder_sparse_step")
"""Keys after which every n-th layer is of another kind."""


class Layer(NamedTuple):
    """Layer `number` of `source`."""

    source: Source
    number: int


class LayerView(Source):
    """A model whose layer i is `layers[i]`, a layer of any source of the same architecture.

    What stands before the layers (embeddings) comes from `first`, what stands after them (final norm, head) from
    `last`; defaults: the sources of the first and of the last layer. `reference` (default: `first`) gives the tokenizer
    and config.json, in which the number of layers and lists with an entry for each layer are put right.

    Raises ValueError for no layers, a layer that a source does not have, or a source with two stacks of layers.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Layer | tuple[Source, int]],
        *,
        first: Source | None = None,
        last: Source | None = None,
        reference: Source | None = None,
    ) -> None:
        if not layers:
            raise ValueError(f"model {name!r}: no layers; give at least one")
        self.name = name
        self.layers = [Layer(*layer) for layer in layers]
        self._sources = list(dict.fromkeys([first or self.layers[0].source, *(layer.source for layer in self.layers)]))
        self._sources += [source for source in (last, reference) if source and source not in self._sources]
        self._reference = reference or self._sources[0]
        self.folder = self._reference.folder
        by_layer = {source: by_index(source) for source in self._sources}
        self._origin: dict[str, tuple[Source, str]] = {}
        for tensor in by_layer[self._sources[0]].get(None, ()):
            if before_the_layers(tensor):
                self._origin[tensor] = (self._sources[0], tensor)
        for number, (source, index) in enumerate(self.layers):
            if index not in by_layer[source]:
                held = max((each for each in by_layer[source] if each is not None), default=-1) + 1
                raise ValueError(
                    f"model {name!r}: layer {index} of model {source.name!r}, which has only layers 0 to {held - 1}"
                )
            for tensor in by_layer[source][index]:
                self._origin[renumbered(tensor, number)] = (source, tensor)
        end = last or self.layers[-1].source
        for tensor in by_layer[end].get(None, ()):
            if not before_the_layers(tensor):
                self._origin[tensor] = (end, tensor)
        self.tensors = {
            tensor: TensorEntry(tensor, source.tensors[old].dtype, source.tensors[old].shape)
            for tensor, (source, old) in self._origin.items()
        }

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened tensor, shape (count,), as stored."""
        return self.elements(tensor, start, count).tensor

    def elements(self, tensor: str, start: int, count: int) -> Elements:
        """See the base class."""
        source, old = self._origin[tensor]
        return source.elements(old, start, count)

    def json(self, file: str) -> dict[str, Any] | None:
        """A JSON file of the reference; config.json describes the new layers."""
        data = self._reference.json(file)
        if file == "config.json" and data is not None:
            data = self._described(data, None)
            for part in ("text_config", "llm_config", "language_config"):
                if isinstance(data.get(part), dict):
                    data[part] = self._described(data[part], part)
        return data

    def file(self, name: str) -> bytes | None:
        """A file of the reference beside its weights, or None if it has none of this name."""
        return self._reference.file(name)

    def identity(self) -> Any:
        """Plain data that changes whenever the values may have, or None: merges of it start anew after a kill."""
        sources = [source.identity() for source in self._sources]
        layers = [[self._sources.index(layer.source), layer.number] for layer in self.layers]
        return None if None in sources else ["layers", sources, layers]

    def _described(self, config: dict[str, Any], part: str | None) -> dict[str, Any]:
        config = dict(config)
        for key in COUNTS:
            if key in config:
                config[key] = len(self.layers)
        for key in PERIODS:
            period = config.get(key)
            moved = any((number - index) % period for number, (_, index) in enumerate(self.layers)) if period else False
            if moved and not config.get("layer_types"):
                raise ValueError(
                    f"model {self.name!r}: config.json says {key} = {period}, so that what a layer is depends on its "
                    f"number, and this stack moves layers to other numbers; move them by multiples of {period}"
                )
        for key in PER_LAYER:
            if isinstance(config.get(key), list):
                config[key] = [_entries(layer, part, key)[layer.number] for layer in self.layers]
        for key in INDICES:
            if isinstance(config.get(key), list):
                config[key] = [n for n, layer in enumerate(self.layers) if layer.number in _entries(layer, part, key)]
        return config

    def close(self) -> None:
        """Close all sources."""
        for source in self._sources:
            source.close()


def _entries(layer: Layer, part: str | None, key: str) -> list[Any]:
    """The list `key` of a layer's own config.json."""
    config = layer.source.json("config.json") or {}
    entries = (config if part is None else config.get(part) or {}).get(key)
    if not isinstance(entries, list) or (key in PER_LAYER and layer.number >= len(entries)):
        raise ValueError(f"model {layer.source.name!r}: config.json has no entry of {key} for layer {layer.number}")
    return entries


def by_index(source: Source) -> dict[int | None, list[str]]:
    """Names of a source's tensors by their layer, None for those of no layer.

    Raises ValueError if they belong to two stacks of layers (an encoder and a decoder).
    """
    result: dict[int | None, list[str]] = {}
    stacks: set[str] = set()
    for tensor in source.tensors:
        index = layer_index(tensor)
        result.setdefault(index, []).append(tensor)
        if index is not None:
            stacks.add(tensor.split(f".{index}.", 1)[0])
    if len(stacks) > 1:
        raise ValueError(f"model {source.name!r} has several stacks of layers ({', '.join(sorted(stacks))}), not one")
    return result


def number_of_layers(source: Source) -> int:
    """How many layers a source has (0 without any)."""
    return 1 + max((index for index in by_index(source) if index is not None), default=-1)


def renumbered(tensor: str, number: int) -> str:
    """The name of a layer's tensor in layer `number`: its first numeric part is replaced."""
    parts = tensor.split(".")
    parts[next(i for i, part in enumerate(parts) if part.isdigit())] = str(number)
    return ".".join(parts)


def before_the_layers(tensor: str) -> bool:
    """Whether a tensor of no layer comes before the layers (embeddings and their norms) rather than after them."""
    return any(word in part for part in tensor.split(".") for word in ("embed", "wte", "wpe")) and not (
        tensor.startswith("embed_out")
    )
