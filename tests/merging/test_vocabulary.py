"""Models with different tokenizers: unions of real tokenizers, and merges in the order of their rows."""

import json

import pytest
import torch
from merge_models import CONFIG, HIDDEN, save, weights
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.compatibility import vocabulary
from langmerge.merging.elements import FLOAT32
from langmerge.merging.engine import Merge
from langmerge.merging.reader import ModelFolder
from langmerge.merging.sinks import write_models
from langmerge.merging.sources import Source, TensorEntry
from langmerge.merging.tokenizer_union import unite
from langmerge.merging.vocabulary import ArrangedCounts, read_rows, unify
from langmerge.merging.writer import COPIED

TEXTS = {
    "english": ["the cat sat on the mat and the dog ran away from the house", "a house is not a home for a cat"] * 4,
    "russian": ["кошка сидела на коврике, а собака убежала из дома", "дом кошки и дом собаки на горе"] * 4,
    "italian": ["il gatto dorme sul tappeto e il cane scappa dalla casa", "la casa del gatto è sulla strada"] * 4,
}
EVERYTHING = [text for texts in TEXTS.values() for text in texts[:2]]
SPECIAL = ["<unk>", "<s>", "</s>"]


def tokenizer(kind, texts, size=300, special=SPECIAL):
    """A tokenizer trained on `texts`, as data."""
    if kind == "byte BPE":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=special
        )
    elif kind == "BPE":
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special)
    elif kind == "Unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>")
    else:
        made = Tokenizer(models.WordLevel(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=special)
    made.train_from_iterator(texts, trainer, length=len(texts))
    return json.loads(made.to_str())


def loaded(data):
    return Tokenizer.from_str(json.dumps(data))


def cuts(data, text):
    """Character offsets at which a tokenizer cuts a text."""
    return {end for _, end in loaded(data).encode(text).offsets}


@pytest.fixture(scope="module")
def trained():
    kinds = ("byte BPE", "BPE", "Unigram", "WordLevel")
    return {kind: {name: tokenizer(kind, texts) for name, texts in TEXTS.items()} for kind in kinds}


# ---- tokenizers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["byte BPE", "BPE", "Unigram", "WordLevel"])
def test_a_union_has_the_tokens_of_all_and_leaves_the_bases_ids(trained, kind):
    union = unite(trained[kind], "english")
    ids, base = vocabulary(union), vocabulary(trained[kind]["english"])
    assert {token: ids[token] for token in base} == base
    assert set(ids) == set().union(*(vocabulary(data) for data in trained[kind].values()))
    assert sorted(ids.values()) == list(range(len(ids)))
    made = loaded(union)
    assert {token: made.token_to_id(token) for token in ids} == ids  # as the library counts them, too


@pytest.mark.parametrize("kind", ["byte BPE", "BPE", "Unigram", "WordLevel"])
def test_what_some_model_could_write_the_union_writes_without_unknowns(trained, kind):
    made = loaded(unite(trained[kind], "english"))
    unknown = made.token_to_id("<unk>")
    base = loaded(trained[kind]["english"])
    for text in EVERYTHING:
        assert unknown not in made.encode(text).ids
        if kind != "WordLevel":
            assert made.decode(made.encode(text).ids) == text
    if kind != "byte BPE":
        assert any(unknown in base.encode(text).ids for text in TEXTS["russian"])


@pytest.mark.parametrize("kind", ["byte BPE", "BPE", "WordLevel"])
def test_base_text_is_segmented_as_before_beside_another_script(trained, kind):
    both = {name: trained[kind][name] for name in ("english", "russian")}
    union, base = loaded(unite(both, "english")), loaded(both["english"])
    for text in TEXTS["english"]:
        assert union.encode(text).ids == base.encode(text).ids


def test_bpe_only_joins_what_the_base_cut_and_uses_the_others_merges(trained):
    data = trained["byte BPE"]
    union = unite(data, "english")
    assert union["model"]["merges"][: len(data["english"]["model"]["merges"])] == data["english"]["model"]["merges"]
    for text in EVERYTHING:
        assert cuts(union, text) <= cuts(data["english"], text)
    russian = TEXTS["russian"][0]
    lengths = [len(loaded(each).encode(russian).ids) for each in (union, data["russian"], data["english"])]
    assert lengths[0] == lengths[1] < lengths[2]


def test_merges_are_read_and_written_in_both_spellings(trained):
    data = {name: json.loads(json.dumps(trained["byte BPE"][name])) for name in ("english", "russian")}
    expected = unite(data, "english")
    data["english"]["model"]["merges"] = [" ".join(pair) for pair in data["english"]["model"]["merges"]]
    union = unite(data, "english")
    assert union["model"]["merges"] == [" ".join(pair) for pair in expected["model"]["merges"]]
    assert loaded(union).encode(EVERYTHING[2]).ids == loaded(expected).encode(EVERYTHING[2]).ids


def test_added_tokens_are_united_and_matched_whole():
    english = tokenizer("byte BPE", TEXTS["english"])
    made = loaded(english)
    made.add_special_tokens(["<|end|>"])
    english = json.loads(made.to_str())
    assert "<|end|>" not in english["model"]["vocab"]  # it comes after the vocabulary, where new tokens would stand
    other = loaded(tokenizer("byte BPE", TEXTS["russian"], special=["<pad>", "<s>"]))
    other.add_special_tokens(["<|user|>", "<|end|>"])
    union = unite({"english": english, "russian": json.loads(other.to_str())}, "english")
    made = loaded(union)
    end = vocabulary(english)["<|end|>"]
    assert made.encode("<|user|>кошка<|end|>").ids[-1] == end
    assert made.encode("<|user|>кошка<|end|>").tokens[0] == "<|user|>"
    assert [row["content"] for row in union["added_tokens"]] == [*SPECIAL, "<|end|>", "<pad>", "<|user|>"]
    assert all(row["special"] and made.token_to_id(row["content"]) == row["id"] for row in union["added_tokens"])
    assert made.encode("a cat").ids == loaded(english).encode("a cat").ids


def test_an_added_token_that_is_ordinary_in_the_base_is_matched_whole_only_if_special(trained):
    other = loaded(trained["byte BPE"]["russian"])
    other.add_tokens(["he"])
    other.add_special_tokens(["the"])
    base = trained["byte BPE"]["english"]
    assert {"he", "the"} <= set(vocabulary(base))
    union = unite({"english": base, "russian": json.loads(other.to_str())}, "english")
    assert [row["content"] for row in union["added_tokens"]] == [*SPECIAL, "the"]
    assert {row["content"]: row["id"] for row in union["added_tokens"]}["the"] == vocabulary(base)["the"]


def test_a_unigram_token_keeps_the_score_of_the_first_model_that_has_it(trained):
    data = {name: trained["Unigram"][name] for name in ("russian", "italian", "english")}
    scores = dict(map(tuple, unite(data, "english")["model"]["vocab"]))
    given = {name: dict(map(tuple, tokenizer["model"]["vocab"])) for name, tokenizer in data.items()}
    for token, score in scores.items():
        first = next(name for name in ("english", "russian", "italian") if token in given[name])
        assert score == given[first][token]
    assert any(given["english"][t] != given["italian"][t] for t in given["english"].keys() & given["italian"].keys())


def test_free_ids_of_a_unigram_are_filled_and_never_used(trained):
    english = json.loads(json.dumps(trained["Unigram"]["english"]))
    far = len(english["model"]["vocab"]) + 3
    english["added_tokens"].append({**english["added_tokens"][0], "id": far, "content": "<far>"})
    union = unite({"english": english, "russian": trained["Unigram"]["russian"]}, "english")
    made = loaded(union)
    assert made.token_to_id("<far>") == far
    assert all(made.encode(text).ids for text in EVERYTHING)
    assert not {far - 1, far - 2, far - 3} & {i for text in EVERYTHING for i in made.encode(text).ids}
    assert vocabulary(union)[union["model"]["vocab"][far + 1][0]] == far + 1


def test_tokenizers_that_spell_differently_have_no_union(trained):
    def refused(message, one, two):
        with pytest.raises(ValueError, match=message):
            unite({"a": one, "b": two}, "a")

    byte, bpe, unigram = (trained[kind]["english"] for kind in ("byte BPE", "BPE", "Unigram"))
    refused(r"byte level is True in model 'a' but False in model 'b'.*vocabulary: body", byte, bpe)
    refused(r"model\.type is 'BPE' in model 'a' but 'Unigram' in model 'b'", bpe, unigram)
    wordpiece = {**bpe, "model": {"type": "WordPiece", "vocab": {"a": 0}}}
    refused(r"model 'b': tokenizer\.json: model\.type is 'WordPiece'; a union is made of BPE, Unigram", bpe, wordpiece)
    fallback = {**bpe, "model": {**bpe["model"], "byte_fallback": True}}
    refused(r"model\.byte_fallback is False in model 'a' but True", bpe, fallback)


# ---- rows ----------------------------------------------------------------------------------------------------


def model(folder, data, seed, rows=None, tied=True, like=None, permuted=None):
    """A model folder with a tokenizer; one row a token unless said."""
    number = rows or 1 + max(vocabulary(data).values())
    state = dict(like) if like else weights(seed)
    generator = torch.Generator().manual_seed(seed + 100)
    if like is None:
        state["model.embed_tokens.weight"] = torch.randn(number, HIDDEN, generator=generator)
        if not tied:
            state["lm_head.weight"] = torch.randn(number, HIDDEN, generator=generator)
    if permuted is not None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if name in state:
                moved = torch.empty_like(state[name])
                moved[permuted] = state[name]
                state[name] = moved
    config = CONFIG | {"vocab_size": number, "tie_word_embeddings": tied, "bos_token_id": vocabulary(data)["<s>"]}
    save(folder, state, config, data)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"})
    )
    return state


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory):
    """Three models of untied embeddings with tokenizers of their own; the base's embeddings are padded."""
    root = tmp_path_factory.mktemp("vocabularies")
    data = trained["byte BPE"]
    pad = 1 + max(vocabulary(data["english"]).values()) + 7
    states = {
        name: model(root / name, data[name], i, rows=pad if i == 0 else None, tied=False)
        for i, name in enumerate(TEXTS)
    }
    return states, {name: root / name for name in TEXTS}, data


EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize("base", TEXTS)
def test_every_token_of_every_model_maps_to_its_own_row_and_others_to_the_rule(folders, base):
    states, paths, data = folders
    unified = unify(paths, base, "union")
    ids = vocabulary(unified.sources[base].json("tokenizer.json"))
    owns = {name: vocabulary(data[name]) for name in TEXTS}
    number_of_owners = set()
    for tensor in EMBEDDINGS:
        rows = {name: unified.sources[name].whole(tensor) for name in TEXTS}
        for token, row in ids.items():
            owners = {name: states[name][tensor][own[token]] for name, own in owns.items() if token in own}
            filler = owners[base] if base in owners else sum(owners.values()) / len(owners)
            number_of_owners.add((base in owners, len(owners)))
            for name in TEXTS:
                torch.testing.assert_close(rows[name][row], owners.get(name, filler), atol=1e-7, rtol=0)
                if name in owners:
                    assert torch.equal(rows[name][row], owners[name])
    assert {(True, 1), (True, 3), (False, 1)} <= number_of_owners
    assert base != "russian" or (False, 2) in number_of_owners
    assert unified.notes["tokens"] == len(ids)


@pytest.mark.parametrize("piece", [(0, 1), (5, 32), (31, 2), (33, 640), (7 * HIDDEN, 3 * HIDDEN)])
def test_any_range_of_elements_can_be_read(folders, piece):
    _, paths, _ = folders
    for view in unify(paths, "english").sources.values():
        whole = view.whole("lm_head.weight").flatten()
        end = whole.numel() - piece[1]
        for start in (piece[0], end):
            assert torch.equal(view.read("lm_head.weight", start, piece[1]), whole[start : start + piece[1]])


def test_a_models_padding_stays_and_is_used_for_new_tokens(trained, tmp_path):
    data = {name: trained["WordLevel"][name] for name in ("english", "russian")}
    tokens = {name: len(vocabulary(data[name])) for name in data}
    states = {
        name: model(tmp_path / name, data[name], i, rows=tokens[name] + (100 if i == 0 else 5))
        for i, name in enumerate(data)
    }
    unified = unify({name: tmp_path / name for name in data}, "english")
    union = unified.sources["english"].json("tokenizer.json")
    ids, new = vocabulary(union), vocabulary(data["russian"])
    assert max(ids.values()) + 1 < tokens["english"] + 100
    for name, view in unified.sources.items():
        rows = view.whole("model.embed_tokens.weight")
        assert len(rows) == tokens["english"] + 100 == view.json("config.json")["vocab_size"]
        assert torch.equal(rows[ids["дом"]], states["russian"]["model.embed_tokens.weight"][new["дом"]])
        free = slice(max(ids.values()) + 1, None)
        assert torch.equal(rows[free], states["english"]["model.embed_tokens.weight"][free]), name


def test_rows_are_rounded_up_and_those_of_nobody_are_zero(folders):
    _, paths, _ = folders
    views = unify(paths, "english", pad_to_multiple_of=64).sources
    tokens = len(vocabulary(views["english"].json("tokenizer.json")))
    for view in views.values():
        rows = view.whole("lm_head.weight")
        assert len(rows) % 64 == 0
        assert len(rows) - tokens < 64
        assert not rows[tokens:].any()


def test_a_token_beyond_the_embeddings_counts_as_lacking(trained, tmp_path):
    data = {name: trained["WordLevel"][name] for name in ("english", "italian")}
    english, italian = (vocabulary(each) for each in data.values())
    token = max(english.keys() & italian.keys(), key=english.__getitem__)
    last = max(english, key=english.__getitem__)
    states = {
        "english": model(tmp_path / "english", data["english"], 0, rows=english[last]),
        "italian": model(tmp_path / "italian", data["italian"], 1, rows=italian[token]),
    }
    views = unify({name: tmp_path / name for name in data}, "english").sources
    rows = views["italian"].whole("model.embed_tokens.weight")
    assert torch.equal(rows[english[token]], states["english"]["model.embed_tokens.weight"][english[token]])
    assert not rows[english[last]].any()


@pytest.mark.parametrize("columns", [1, 3, 2000])
def test_rows_are_read_in_few_pieces_and_any_order(columns):
    class Counted(Source):
        name = "counted"
        values = torch.randn(500, columns, generator=torch.Generator().manual_seed(0))
        tensors = {"w": TensorEntry("w", FLOAT32, (500, columns))}  # noqa: RUF012
        reads = elements = 0

        def read(self, tensor, start, count):
            self.reads += 1
            self.elements += count
            return self.values.flatten()[start : start + count]

    source = Counted()
    rows = torch.tensor([499, 3, -1, 0, 4, 200, -1, 201, 3])
    out = torch.full((9, columns), -7.0)
    read_rows(source, "w", rows, out)
    expected = torch.where((rows >= 0)[:, None], source.values[rows], -7.0)
    assert torch.equal(out, expected)
    assert source.reads <= 4
    assert source.elements == {1: 500, 3: 500, 2000: 6}[columns] * columns  # small gaps are read along, large ones not
    assert torch.equal(read_rows(source, "w", torch.full((2,), -1), torch.zeros(2, columns)), torch.zeros(2, columns))


# ---- merges --------------------------------------------------------------------------------------------------

METHODS = [
    ("linear", {"weights": [1, 3]}),
    ("task_arithmetic", {"scale": 0.7}),
    ("ties", {"density": 0.4}),
    ("dare_linear", {"density": 0.5, "seed": 3}),
]


@pytest.mark.parametrize(("method", "parameters"), METHODS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_permuted_vocabulary_makes_no_difference(trained, tmp_path, method, parameters, tied):
    data = trained["WordLevel"]["italian"]
    base = model(tmp_path / "base", data, 0, tied=tied)
    _, b = (model(tmp_path / n, data, i, tied=tied) for i, n in enumerate("ab", 1))
    size = len(base["model.embed_tokens.weight"])
    permutation = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    shuffled = json.loads(json.dumps(data))
    shuffled["model"]["vocab"] = {t: int(permutation[i]) for t, i in data["model"]["vocab"].items()}
    for row in shuffled["added_tokens"]:
        row["id"] = int(permutation[row["id"]])
    model(tmp_path / "twin", shuffled, 0, tied=tied, like=b, permuted=permutation)
    paths = {name: tmp_path / name for name in ("base", "a", "b", "twin")}
    (expected,) = state_dicts([Recipe("m", method, ("a", "b"), "base", parameters)], paths)
    with pytest.raises(ValueError, match=r"vocabulary: union .* or vocabulary: body"):
        Merge([Recipe("m", method, ("a", "twin"), "base", parameters)], paths)
    recipe = Recipe("m", method, ("a", "b"), "base", parameters)
    views = unify({"base": paths["base"], "a": paths["a"], "b": paths["twin"]}, "base").sources
    (merged,) = state_dicts([recipe], views, block=300)
    assert set(merged.state_dict) == set(expected.state_dict)
    for name, tensor in expected.state_dict.items():
        torch.testing.assert_close(merged.state_dict[name], tensor, atol=2e-7, rtol=0)


@pytest.mark.parametrize(("method", "parameters"), [*METHODS[1:], ("linear", {})])
def test_a_token_of_one_owner_keeps_its_row(folders, method, parameters):
    states, paths, data = folders
    views = unify(paths, "english").sources
    (merged,) = state_dicts([Recipe("m", method, ("russian", "italian"), "english", parameters)], views)
    ids, owns = vocabulary(views["english"].json("tokenizer.json")), {n: vocabulary(data[n]) for n in TEXTS}
    only = set(owns["russian"]) - set(owns["english"]) - set(owns["italian"])
    assert only
    for tensor in EMBEDDINGS:
        for token in only:
            expected = states["russian"][tensor][owns["russian"][token]]
            torch.testing.assert_close(merged.state_dict[tensor][ids[token]], expected, atol=1e-6, rtol=0)


def write(recipe, unified, folder):
    """A merged model with the files that its view gives."""
    write_models([recipe], unified.sources, {recipe.name: folder})
    view = unified.sources[recipe.base]
    for name in COPIED:
        (folder / name).unlink(missing_ok=True)
        if (content := view.file(name)) is not None:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("how", ["union", "body"])
def test_transformers_loads_model_and_tokenizer(folders, tmp_path, how):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    states, paths, data = folders
    unified = unify(paths, "english", how)
    recipe = Recipe("m", "ties", ("russian", "italian"), "english", {"density": 1.0}, rules=unified.rules)
    folder = write(recipe, unified, tmp_path / "merged")
    made, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    rows = network.get_input_embeddings().weight.shape[0]
    assert network.config.vocab_size == rows >= len(made)
    assert network.config.bos_token_id == made.bos_token_id == vocabulary(data["english"])["<s>"]
    for text in EVERYTHING:
        ids = made(text, return_tensors="pt").input_ids
        assert made.decode(ids[0]) == text
        assert torch.isfinite(network(ids).logits).all()
    if how == "union":
        russian = loaded(data["russian"]).encode(EVERYTHING[2]).tokens
        assert made.convert_ids_to_tokens(made(EVERYTHING[2]).input_ids) == russian
    else:
        assert vocabulary(json.loads((folder / "tokenizer.json").read_text())) == vocabulary(data["english"])
        for tensor in EMBEDDINGS:
            assert torch.equal(network.state_dict()[tensor], states["english"][tensor])
        body = "model.layers.0.mlp.up_proj.weight"
        assert not torch.equal(network.state_dict()[body], states["english"][body])


def test_other_forms_of_the_tokenizer_and_tables_of_added_tokens_do_not_go_stale(trained, tmp_path):
    data = {name: trained["byte BPE"][name] for name in ("english", "russian")}
    data["russian"] = {**data["russian"], "added_tokens": [*data["russian"]["added_tokens"]]}
    row = {**data["russian"]["added_tokens"][0], "content": "<ru>", "id": 1 + max(vocabulary(data["russian"]).values())}
    data["russian"]["added_tokens"].append(row)
    for i, name in enumerate(data):
        model(tmp_path / name, data[name], i)
    (tmp_path / "english" / "vocab.json").write_text("{}")
    (tmp_path / "english" / "special_tokens_map.json").write_text('{"bos_token":   "<s>"}')
    config = {"added_tokens_decoder": {"0": {"content": "<unk>"}}}
    (tmp_path / "english" / "tokenizer_config.json").write_text(json.dumps(config))
    paths = {name: tmp_path / name for name in data}
    view = unify(paths, "english").sources["russian"]
    assert view.file("vocab.json") is None
    assert view.file("special_tokens_map.json") == b'{"bos_token":   "<s>"}'
    ids = vocabulary(json.loads(view.file("tokenizer.json")))
    table = json.loads(view.file("tokenizer_config.json"))["added_tokens_decoder"]
    assert table[str(ids["<ru>"])]["content"] == "<ru>"
    assert json.loads(view.file("config.json"))["bos_token_id"] == vocabulary(data["english"])["<s>"]
    body = unify(paths, "english", "body").sources["russian"]
    assert body.file("vocab.json") == b"{}"
    assert body.file("tokenizer.json") == (tmp_path / "english" / "tokenizer.json").read_bytes()
    assert body.file("merges.txt") is None


def test_embeddings_of_the_base_stay_also_under_weights_that_do_not_sum_to_one(folders):
    states, paths, _ = folders
    unified = unify(paths, "english", "body")
    parameters = {"weights": [2, 3], "normalize": False}
    recipe = Recipe("m", "linear", ("russian", "italian"), "english", parameters, rules=unified.rules)
    (merged,) = state_dicts([recipe], unified.sources)
    for tensor in EMBEDDINGS:
        assert torch.equal(merged.state_dict[tensor], states["english"][tensor])
    norm = 2 * states["russian"]["model.norm.weight"] + 3 * states["italian"]["model.norm.weight"]
    torch.testing.assert_close(merged.state_dict["model.norm.weight"], norm)


def test_a_tied_head_that_only_some_models_store_is_left_out(trained, tmp_path):
    data = {name: trained["WordLevel"][name] for name in ("english", "russian")}
    states = {name: model(tmp_path / name, data[name], i) for i, name in enumerate(data)}
    extra = states["russian"] | {"lm_head.weight": states["russian"]["model.embed_tokens.weight"].clone()}
    config = json.loads((tmp_path / "russian" / "config.json").read_text())
    save(tmp_path / "stored", extra, config, data["russian"])
    views = unify({"english": tmp_path / "english", "russian": tmp_path / "stored"}, "english").sources
    (merged,) = state_dicts([Recipe("m", "linear", ("english", "russian"))], views)
    assert set(merged.state_dict) == set(states["english"])


def test_counts_move_with_the_rows(folders, tmp_path):
    from safetensors.torch import save_file

    _, paths, data = folders
    own = vocabulary(data["russian"])
    counts = torch.randint(0, 9, (1 + max(own.values()),), generator=torch.Generator().manual_seed(2))
    save_file({"counts": counts}, tmp_path / "model.safetensors")
    view = unify(paths, "english").sources["russian"]
    arranged = ArrangedCounts(ModelFolder("counts", tmp_path), view).whole("counts")
    ids = vocabulary(view.json("tokenizer.json"))
    assert len(arranged) == len(view.whole("lm_head.weight"))
    assert {t: int(arranged[i]) for t, i in ids.items()} == {t: int(counts[own[t]]) if t in own else 0 for t in ids}


@pytest.mark.parametrize(
    ("base", "arguments", "message"),
    [
        ("french", {}, "no model 'french' to take as base; known: english, russian, italian"),
        ("english", {"how": "intersection"}, "'intersection' is not one of union, body"),
        ("english", {"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
    ],
)
def test_what_cannot_be_unified_is_said(folders, base, arguments, message):
    with pytest.raises(ValueError, match=message):
        unify(folders[1], base, **arguments)


def test_a_union_needs_a_tokenizer_of_every_model_and_a_body_does_not(folders, states, tmp_path):
    bare = save(tmp_path / "bare", states["a"], tokenizer=None)
    paths = {**folders[1], "bare": bare}
    with pytest.raises(ValueError, match=r"model 'bare': no tokenizer\.json in .*save it with a fast tokenizer"):
        unify(paths, "english")
    embeddings = unify({"english": folders[1]["english"], "bare": bare}, "english", "body").sources["bare"]
    assert torch.equal(embeddings.whole(EMBEDDINGS[0]), folders[0]["english"][EMBEDDINGS[0]])


def test_normalizers_that_differ_are_reported(trained, tmp_path):
    lower = json.loads(normalizers.Lowercase().__getstate__())
    data = {
        "english": trained["byte BPE"]["english"],
        "russian": {**trained["byte BPE"]["russian"], "normalizer": lower},
    }
    for i, name in enumerate(data):
        model(tmp_path / name, data[name], i)
    unified = unify({name: tmp_path / name for name in data}, "english")
    assert unified.notes["base_pipeline_in_place_of"] == {"russian": ["normalizer"]}
