"""Tiny random decoders of every kind that can be grown, with gains and biases that are not ones and zeros."""

import copy

import pytest
import torch

SIZES = {
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def decoder(kind="llama", seed=0, **changes):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**SIZES, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.copy_(0.3 * torch.randn_like(weight) + ("norm" in name))
    return model


def parts(model):
    """(weights, config) as a model folder has them: a tied head once."""
    config = model.config.to_dict()
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del weights["lm_head.weight"]
    return weights, config


def rebuilt(weights, config):
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**copy.deepcopy(config)), dtype=torch.float32)
    weights = dict(weights)
    if config["tie_word_embeddings"]:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, strict=True)
    return model.eval()


def logits(model, tokens=None):
    if tokens is None:
        tokens = torch.randint(model.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(tokens).logits.float()


def relative(grown, source):
    """Greatest difference of two models' logits, relative to the greatest logit."""
    return float((logits(grown) - logits(source)).abs().max() / logits(source).abs().max())


class Lab:
    decoder = staticmethod(decoder)
    parts = staticmethod(parts)
    rebuilt = staticmethod(rebuilt)
    logits = staticmethod(logits)
    relative = staticmethod(relative)


@pytest.fixture(scope="session")
def lab():
    return Lab
