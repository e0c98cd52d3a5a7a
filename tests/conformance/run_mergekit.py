"""Runs mergekit on many configurations in one process. Started by the tests with mergekit's own Python.

`python run_mergekit.py CASES.json`: a list of objects with `config` (a mergekit configuration), `out` (a folder
that does not exist), `masks` (a folder with random bits, or null) and `stable` (whether entries of equal size keep
their order). Prints, as JSON, null or an error for each.
"""

import json
import sys
from pathlib import Path

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.merge_methods import generalized_task_arithmetic as gta
from mergekit.options import MergeOptions
from safetensors import safe_open

OPTIONS = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False)


class GivenMasks:
    """Lets DARE and DELLA draw their Bernoulli masks from given bits, int32 uniform in [0, 2^31).

    A file MODEL.safetensors in the folder holds them under the tensors' names.
    """

    def __init__(self):
        self.folder = None
        self._merge_group = gta.GeneralizedTaskArithmeticMerge.merge_group
        self._sparsify = gta.sparsify
        self._bernoulli = torch.bernoulli
        gta.GeneralizedTaskArithmeticMerge.merge_group = lambda *a, **k: self.merge_group(*a, **k)
        gta.sparsify = self.sparsify
        torch.bernoulli = self.bernoulli

    def merge_group(self, method, group, /, **parameters):
        self.tensor = group.metadata.name
        self.models = [Path(entry.id.model.path).name for entry in group.non_base]
        return self._merge_group(method, group, **parameters)

    def sparsify(self, *arguments, **options):
        """Called for one model after another."""
        self.model = self.models.pop(0)
        return self._sparsify(*arguments, **options)

    def bernoulli(self, probabilities):
        if self.folder is None:
            return self._bernoulli(probabilities)
        with safe_open(self.folder / f"{self.model}.safetensors", "pt") as file:
            bits = file.get_tensor(self.tensor).view(probabilities.shape)
        return (bits < (probabilities.double() * 2**31).round()).to(probabilities.dtype)


class StableOrder:
    """Lets entries of equal size come in the order of their indices; mergekit leaves it to the sort at hand.

    Task vectors of bfloat16 models take few values, so that this decides over several per cent of all entries.
    """

    def __init__(self):
        self.on = True
        self._argsort, self._sort, self._topk = torch.argsort, torch.sort, torch.topk
        torch.argsort = lambda *values, **options: self._argsort(*values, **options, stable=self.on)
        torch.sort = lambda *values, **options: self._sort(*values, **options, stable=self.on)
        torch.topk = self.topk

    def topk(self, values, k, largest=True):
        if not self.on:
            return self._topk(values, k, largest=largest)
        found = self._sort(values, descending=largest, stable=True)
        return found.values[:k], found.indices[:k]


def main():
    masks, order = GivenMasks(), StableOrder()
    errors = []
    for case in json.loads(Path(sys.argv[1]).read_text()):
        masks.folder = Path(case["masks"]) if case["masks"] else None
        order.on = case["stable"]
        try:
            run_merge(MergeConfiguration.model_validate(case["config"]), case["out"], OPTIONS)
            errors.append(None)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
