"""Runs peft's merges in one process. Started by the tests with peft's own Python.

`python run_peft.py TASK.json`, an object with
vectors: file of each model's task vectors; masks: file of its random bits, int32 uniform in [0, 2^31);
functions: objects with name (of peft.utils.merge_utils), models, weights, density (or null) and out, the file that
gets the merged task vectors;
base: folder of a model; adapters: folder of each LoRA adapter;
combinations: objects with adapters, options (of add_weighted_adapter) and out, the file that gets B A by module.
Prints the JSON of null when all is done.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import merge_utils
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def merge_vectors(task):
    vectors = {model: load_file(file) for model, file in task["vectors"].items()}
    bits = {model: load_file(file) for model, file in task["masks"].items()}
    for call in task["functions"]:
        merged = {}
        for tensor in vectors[call["models"][0]]:
            waiting = [bits[model][tensor] for model in call["models"]]

            def bernoulli(probabilities, waiting=waiting):
                """Called for one model after another."""
                mask = waiting.pop(0).view(probabilities.shape) < (probabilities.double() * 2**31).round()
                return mask.to(probabilities.dtype)

            torch.bernoulli = bernoulli
            density = {} if call["density"] is None else {"density": call["density"]}
            merged[tensor] = getattr(merge_utils, call["name"])(
                [vectors[model][tensor] for model in call["models"]], torch.tensor(call["weights"]), **density
            ).contiguous()
        save_file(merged, call["out"])


def merge_adapters(task):
    model = AutoModelForCausalLM.from_pretrained(task["base"], dtype=torch.float32)
    (first, folder), *others = task["adapters"].items()
    model = PeftModel.from_pretrained(model, folder, adapter_name=first)
    for name, folder in others:
        model.load_adapter(folder, name)
    for number, call in enumerate(task["combinations"]):
        merged = f"merged{number}"
        model.add_weighted_adapter(call["adapters"], adapter_name=merged, **call["options"])
        changes = {}
        for name, module in model.base_model.model.named_modules():
            if merged in getattr(module, "lora_A", {}):
                a, b = module.lora_A[merged].weight.double(), module.lora_B[merged].weight.double()
                changes[name] = (module.scaling[merged] * b @ a).detach().contiguous()
        save_file(changes, call["out"])


def main():
    task = json.loads(Path(sys.argv[1]).read_text())
    merge_vectors(task)
    merge_adapters(task)
    print("null")


if __name__ == "__main__":
    main()
