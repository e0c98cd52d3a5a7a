"""Tiny random Llamas and a byte-level tokenizer, alone and as finished results on disk."""


def llama_config(**changes):
    from transformers import LlamaConfig

    settings = {
        "vocab_size": 260,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.4,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**settings, **changes})


def random_llama(seed=0, **changes):
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(**changes)).eval()


def byte_tokenizer(first="<pad>"):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([first, "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=first, bos_token="<s>", eos_token="</s>")


def save_result(model, folder):
    """A model with the byte-level tokenizer as a finished result; the folder."""
    from langmerge import models, provenance

    with provenance.result(folder, {}, "", "") as job:
        models.save_model(model, job.folder)
        byte_tokenizer().save_pretrained(job.folder)
    return folder
