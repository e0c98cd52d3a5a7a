"""Runs FusionBench's merges in one process. Started by the tests with FusionBench's own Python.

`python run_fusion_bench.py TASK.json`, a list of objects with
function: a name of FUNCTIONS below; options: its keyword arguments;
base, models: safetensors files, of each model by name (base may be null);
dtype: what FusionBench computes in; out: the file that gets the merged model.
Task vectors are subtracted in float32 whatever the dtype. Prints a list of null or the text of an error.
"""

import json
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from fusion_bench import BaseModelPool
from fusion_bench.method.dare.task_arithmetic import DareTaskArithmetic
from fusion_bench.method.dare.ties_merging import DareTiesMerging
from fusion_bench.method.emr_merging.utils import EMRModulatedModel, EMRTaskModulator, emr_merge
from fusion_bench.method.fisher_merging.fisher_merging import merging_with_fisher_weights
from fusion_bench.method.isotropic_merging import iso_utils
from fusion_bench.method.knots.knots_utils import subspace_alignment
from fusion_bench.method.magmax.magmax import magmax_merge
from fusion_bench.method.model_stock.model_stock import ModelStock
from fusion_bench.method.regmean.regmean import merging_with_regmean_weights
from fusion_bench.method.slerp.slerp import slerp_on_state_dicts
from fusion_bench.method.tall_mask import task_arithmetic
from fusion_bench.method.tall_mask import utils as tall_masks
from fusion_bench.method.tall_mask.task_arithmetic import TallMaskTaskArithmeticAlgorithm
from fusion_bench.method.task_singular_vector.utils.TSVM_utils import compute_and_sum_svd_mem_reduction
from fusion_bench.method.ties_merging.ties_merging_utils import (
    state_dict_to_vector,
    ties_merging,
    vector_to_state_dict,
)
from fusion_bench.method.wudi.wudi import wudi_merging
from fusion_bench.models.parameter_dict import ParameterDictModel
from safetensors.torch import load_file, save_file
from torch import nn


@dataclass
class Inputs:
    """States by name, and task vectors in the order of the models."""

    base: dict
    models: dict
    vectors: list

    def moved(self, vector, scale=1.0):
        """The base with a merged task vector."""
        return {name: tensor + scale * vector[name] for name, tensor in self.base.items()}

    def pool(self):
        """Modules, fresh ones, since some methods change them in place."""
        models = {name: module(state) for name, state in self.models.items()}
        return BaseModelPool({"_pretrained_": module(self.base), **models})

    def flat(self):
        """The base and the task vectors (n, entries) as one vector each."""
        return state_dict_to_vector(self.base), torch.vstack([state_dict_to_vector(v) for v in self.vectors])

    def unflat(self, vector):
        return vector_to_state_dict(vector, self.base)


def module(state):
    return ParameterDictModel({name: nn.Parameter(tensor.clone()) for name, tensor in state.items()})


# ---- singular vectors --------------------------------------------------------------------------------------------


def tsv_m(x, scale=1.0, weights=None, exclude=()):
    vectors = x.vectors
    if weights:
        vectors = [{n: w * t for n, t in v.items()} for w, v in zip(weights, vectors, strict=True)]
    return x.moved(compute_and_sum_svd_mem_reduction(vectors, list(exclude), accelerator="cpu"), scale)


def iso_c(x, scale=1.0, exclude=()):
    return x.moved(iso_utils.iso_c(x.vectors, "cpu", list(exclude)), scale)


def iso_cts(x, fraction, scale=1.0, exclude=()):
    return x.moved(iso_utils.iso_cts(x.vectors, fraction, "cpu", list(exclude)), scale)


def wudi(x, steps, exclude=()):
    with torch.enable_grad():
        merged = wudi_merging(x.vectors, "cpu", steps, list(exclude))
    return x.moved({name: tensor.detach() for name, tensor in merged.items()})


def knots(x, density):
    """FusionBench aligns; its TIES of the aligned parts of a matrix is the merge. Vectors: the mean."""
    merged = {}
    for name, tensor in x.base.items():
        deltas = [vector[name] for vector in x.vectors]
        if tensor.dim() == 1:
            merged[name] = torch.stack(deltas).mean(0)
            continue
        basis, values, parts = subspace_alignment(deltas, eps=1e-6)
        flat = torch.stack([(values[:, None] * part).flatten() for part in parts])
        merged[name] = basis @ ties_merging(flat, density, "mean").view(len(values), -1)
    return x.moved(merged)


# ---- choices -----------------------------------------------------------------------------------------------------


def magmax(x, scale):
    return magmax_merge(module(x.base), [module(state) for state in x.models.values()], scale).state_dict()


def emr(x, serve):
    vector, masks, rescalers = emr_merge(x.vectors)
    number = list(x.models).index(serve)
    model = EMRModulatedModel(module(x.base), {}, vector)
    model.add_modulator(serve, EMRTaskModulator({n: m[number] for n, m in masks.items()}, float(rescalers[number])))
    model.set_task(serve)
    return model.backbone.state_dict()


def multi_task_vector(x, density):
    base, vectors = x.flat()
    total = vectors.sum(0) if density is None else ties_merging(vectors, density, "sum")
    models = torch.vstack([state_dict_to_vector(state) for state in x.models.values()])
    return base, vectors, models, total


def tall_mask(x, serve, mask_scale, density=None):
    base, vectors, models, total = multi_task_vector(x, density)
    masks = tall_masks.generate_task_masks(vectors, models, base, total, mask_scale)
    return x.unflat(base + masks[list(x.models).index(serve)] * total)


def tall_mask_algorithm(x, serve, mask_scale):
    return TallMaskTaskArithmeticAlgorithm(mask_scale).run(x.pool())["models"][serve].state_dict()


def tall_mask_of_states(x, serve, mask_scale, from_zero):
    """The function that the algorithm calls; it hands over the base's weights where task vectors have zeros."""
    own = x.vectors[list(x.models).index(serve)]
    total = {name: sum(vector[name] for vector in x.vectors) for name in x.base}
    origin = {name: torch.zeros_like(tensor) if from_zero else tensor for name, tensor in x.base.items()}
    mask = task_arithmetic.generate_task_masks(total, own, origin, mask_scale)
    return x.moved({name: mask[name] * total[name] for name in mask})


def consensus(x, k, mask_scale, scale=1.0, density=None):
    """Its masks are read from a file that nothing in FusionBench writes as it is read; here they are handed over."""
    base, vectors, models, total = multi_task_vector(x, density)
    masks = tall_masks.generate_task_masks(vectors, models, base, total, mask_scale)
    made = {name: x.unflat(mask.to(base.dtype)) for name, mask in zip(x.models, masks, strict=True)}
    tall_masks.load_tall_mask = lambda *_: made
    kept = tall_masks.construct_consensus_mask(x.base, k, None)
    return x.unflat(base + scale * kept * total)


# ---- sparse task vectors -----------------------------------------------------------------------------------------


def ties(x, density, merge_func, scale=1.0):
    base, vectors = x.flat()
    return x.unflat(base + scale * ties_merging(vectors, density, merge_func))


def given_masks(x, folder, density):
    """What FusionBench draws becomes 1 where an entry is kept and 0 elsewhere, from the bits in `folder`."""
    waiting = []
    for model, state in x.models.items():
        bits = load_file(f"{folder}/{model}.safetensors")
        waiting += [bits[name] < round(density * 2**31) for name in module(state).state_dict()]

    def rand_like(parameter):
        return waiting.pop(0).view(parameter.shape).to(parameter.dtype)

    torch.rand_like = rand_like


def dare(x, masks, density, scale=1.0, rescale=True):
    given_masks(x, masks, density)
    return DareTaskArithmetic(scale, 1 - density, False, rescale).run(x.pool()).state_dict()


def dare_ties(x, masks, density, trim, merge_func, scale=1.0):
    given_masks(x, masks, density)
    merge = DareTiesMerging(1 - density, False, True, scale, trim, [], merge_func)
    return merge.run(x.pool()).state_dict()


# ---- averages ----------------------------------------------------------------------------------------------------


def model_stock(x):
    return ModelStock().run(x.pool()).state_dict()


def slerp(x, t):
    return slerp_on_state_dicts(t, *x.models.values())


def fisher(x, data, weights, normalize, floor):
    values = {name: [state[name] for state in x.models.values()] for name in next(iter(x.models.values()))}
    kind = next(iter(values.values()))[0].dtype
    informations = [{n: t.to(kind) for n, t in load_file(file).items()} for file in data]
    return merging_with_fisher_weights(values, informations, torch.tensor(weights, dtype=kind), normalize, floor)


def regmean(x, data, off_diagonal):
    values = {name: [state[name] for state in x.models.values()] for name in next(iter(x.models.values()))}
    kind = next(iter(values.values()))[0].dtype
    grams = [{n.removesuffix(".weight"): t.to(kind) for n, t in load_file(file).items()} for file in data]
    return merging_with_regmean_weights(values, grams, off_diagonal)


FUNCTIONS = {
    function.__name__: function
    for function in (
        *(tsv_m, iso_c, iso_cts, wudi, knots, magmax, emr, tall_mask),
        *(tall_mask_algorithm, tall_mask_of_states, consensus),
        *(ties, dare, dare_ties, model_stock, slerp, fisher, regmean),
    )
}


def inputs(call):
    """The models of a call in its dtype."""
    dtype = getattr(torch, call["dtype"])
    models = {name: load_file(file) for name, file in call["models"].items()}
    base = load_file(call["base"]) if call["base"] else {}
    vectors = [{n: (state[n] - base[n]).to(dtype) for n in base} for state in models.values()]
    wide = {name: {n: t.to(dtype) for n, t in state.items()} for name, state in models.items()}
    return Inputs(OrderedDict((n, t.to(dtype)) for n, t in base.items()), wide, vectors)


def main():
    errors, rand_like = [], torch.rand_like
    for call in json.loads(Path(sys.argv[1]).read_text()):
        torch.rand_like = rand_like
        try:
            with torch.no_grad():
                merged = FUNCTIONS[call["function"]](inputs(call), **call["options"])
            save_file({name: tensor.detach().clone().contiguous() for name, tensor in merged.items()}, call["out"])
            errors.append(None)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
