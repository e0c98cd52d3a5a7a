import itertools

import numpy as np
import pytest
import torch

from langmerge.models import load_model
from langmerge.training import objective
from langmerge.training.batches import assemble
from langmerge.training.data import flatten
from langmerge.training.objective import Objective


@pytest.fixture(scope="module")
def sequences():
    random = np.random.default_rng(0)
    return flatten([random.integers(5, 300, n).tolist() for n in (9, 5, 12, 7, 14)], [2, 1, 5, 3, 13])


def tensors(batch):
    return [None if a is None else torch.from_numpy(a) for a in (batch.ids, batch.positions, batch.where, batch.labels)]


def alone(model, sequences):
    """Summed loss of each sequence, one at a time, by the textbook formula in float64."""
    total = 0.0
    for i in range(len(sequences)):
        row = torch.from_numpy(sequences.tokens[sequences.offsets[i] : sequences.offsets[i + 1]]).long()
        log_probability = model(row[None]).logits[0].double().log_softmax(-1)
        asked = range(int(sequences.first[i]), len(row))
        total -= sum(log_probability[t - 1, row[t]] for t in asked)
    return total


@pytest.fixture(params=["sdpa", "eager"])
def model(request, inputs):
    model = load_model(inputs["model"])
    for weight in model.parameters():  # weights far from the start, so that attention matters
        torch.manual_seed(weight.numel())
        weight.data += 0.3 * torch.randn_like(weight)
    model.set_attn_implementation(request.param)
    model.config.use_cache = True  # as a model from the Hub has it: the objective must not rely on the loader
    return model.train()


@pytest.mark.parametrize("context", [None, 28])
def test_loss_is_that_of_each_sequence_alone(model, sequences, context):
    batch = assemble(sequences, np.arange(5), pad=2, context=context)
    loss = Objective(model)(*tensors(batch))
    assert float(loss.detach()) == pytest.approx(float(alone(model, sequences).detach()), rel=1e-5)


def test_packed_documents_do_not_see_each_other(model, sequences):
    batch = assemble(sequences, np.arange(5), pad=2, context=28)
    ids, positions, _, _ = tensors(batch)
    packed = model(ids, position_ids=positions, attention_mask=None, use_cache=False).logits
    leaking = model(ids, position_ids=positions, attention_mask=torch.ones_like(ids), use_cache=False).logits
    row = int(np.argmax((batch.ids != 2).sum(1)))
    starts = [*np.flatnonzero(batch.positions[row] == 0).tolist(), 28]
    assert len(starts) > 3  # several documents share the row
    off, leak = [], []
    for begin, end in itertools.pairwise(starts):
        document = model(ids[row : row + 1, begin:end], use_cache=False).logits[0]
        off.append(float((packed[row, begin:end] - document).detach().abs().max()))
        leak.append(float((leaking[row, begin:end] - document).detach().abs().max()))
    assert max(off) < 1e-3
    # An all-ones mask makes later documents see earlier ones: the comparison above would have found it.
    assert max(leak[1:]) > 0.1


def test_chunked_loss_has_the_same_gradient(model, sequences, monkeypatch):
    batch = tensors(assemble(sequences, np.arange(5), pad=2))

    def gradient():
        model.zero_grad()
        loss = Objective(model)(*batch)
        loss.backward()
        return float(loss), torch.cat([weight.grad.flatten() for weight in model.parameters()])

    whole = gradient()
    monkeypatch.setattr(objective, "LOGITS", 3 * model.config.vocab_size)  # three positions at a time
    pieces = gradient()
    assert pieces[0] == pytest.approx(whole[0], rel=1e-6)
    torch.testing.assert_close(pieces[1], whole[1], rtol=1e-4, atol=1e-4)


def test_capped_and_scaled_logits_match_the_models_own(inputs, sequences):
    from transformers import AutoConfig, AutoModelForCausalLM

    tiny = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 32, "head_dim": 8}  # fmt: skip
    for kind, more in (("gemma2", {"final_logit_softcapping": 0.5}), ("granite", {"logits_scaling": 7.0})):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **tiny, **more)).eval()
        for weight in model.parameters():
            weight.data += 0.5 * torch.randn_like(weight)
        batch = assemble(sequences, np.arange(5), pad=2)
        loss = float(Objective(model)(*tensors(batch)).detach())
        assert loss == pytest.approx(float(alone(model, sequences).detach()), rel=1e-4)
