"""Spans hold exactly the sentences' tokens, and a model decodes from the very tokens that it was trained on."""

import pytest

from langmerge.prompts import Prompt, encode_pairs, encode_text, encode_texts, language_name
from langmerge.provenance import InputError

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TRIMMING = CHATML.replace("m['content']", "m['content'] | trim")
SYSTEM = "You are a translator. The user says: hello.\n" + CHATML
TAGS = Prompt("<{source_code}> {source} <{target_code}>")
SENTENCES = [
    "The cat sleeps.",
    "El niño vio 3 pájaros — ¿dónde?",
    "नमस्ते दुनिया",
    "a",
    "en",  # also the code of the language
    "<es>",
    "the the the",
    "user",  # also a word of the chat template
    "assistant",
    "{source} {x}",
    "two\nlines",
]


def tokenizer_with(merges, chat_template=None, bos="<s>"):
    """A byte-level tokenizer, in which some pairs of characters are one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<pad>", "<s>", "</s>", *alphabet, *(a + b for a, b in merges)]
    backend = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token=bos, eos_token="</s>", chat_template=chat_template
    )


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_with([("t", "h"), ("Ġ", "th"), ("Ġ", "e"), ("Ġ", "Ġ")])


@pytest.fixture(scope="module", params=[CHATML, TRIMMING, SYSTEM], ids=["chatml", "trimming", "system"])
def chat(request):
    return tokenizer_with([("t", "h"), ("e", "r")], request.param)


def text(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def check_spans(tokenizer, encoded, source, target):
    """The spans decode to the sentences, up to a space that a token of byte-level BPE begins with."""
    ids, (a, b), (c, d) = encoded.ids, encoded.source, encoded.target
    assert text(tokenizer, ids[a:b]).lstrip(" ") == source
    assert text(tokenizer, ids[c:d]) == target
    assert 0 < a < b <= encoded.prompt_length == c
    assert ids[d:] == (tokenizer.eos_token_id,)


@pytest.mark.parametrize("source", SENTENCES)
@pytest.mark.parametrize(
    "template",
    [
        "<{source_code}> {source} <{target_code}>",
        "{source}\n{source_name} the en a user\n",
        "en the a user: {source}\n",
    ],
)
def test_spans_hold_the_sentences_only(tokenizer, template, source):
    prompt = Prompt(template)
    check_spans(tokenizer, prompt.encode(tokenizer, source, "Hallo, Welt!", "en", "es"), source, "Hallo, Welt!")


@pytest.mark.parametrize("source", SENTENCES)
def test_spans_in_a_chat_hold_the_sentences_only(chat, source):
    prompt = Prompt("Translate from {source_name} to {target_name}: {source}", "chat")
    encoded = prompt.encode(chat, source, "Hallo", "en", "de")
    check_spans(chat, encoded, source, "Hallo")
    bare = Prompt("{source}", "chat")
    check_spans(chat, bare.encode(chat, source, "Hallo", "en", "de"), source, "Hallo")


@pytest.mark.parametrize("source", ["user", "assistant", "s", "hello", "German"])
def test_a_source_that_is_a_word_of_the_chat_is_found_at_its_place(chat, source):
    """The words stand before or behind the user's text, too."""
    for template in ("{source}", "To {target_name} from {source_name}: {source}"):
        ids, (start, end) = Prompt(template, "chat").encode_prompt(chat, source, "en", "de")
        before = template.format(source="", target_name="German", source_name="English")
        assert text(chat, ids[:start]).endswith(f"<|user|>\n{before}")
        assert text(chat, ids[end:]) == "</s>\n<|assistant|>\n"


def test_a_source_that_stands_in_the_template_too_is_found_at_its_place(tokenizer):
    """`en` occurs twice before the sentence and once behind it; the third one is meant."""
    prompt = Prompt("en en {source} en")
    encoded = prompt.encode(tokenizer, "en", "x", "en", "es")
    before = tokenizer("en en", add_special_tokens=False)["input_ids"]
    assert encoded.source[0] == 1 + len(before)


def test_the_chat_is_that_of_the_tokenizer(chat):
    prompt = Prompt("To {target_name}: {source}", "chat")
    ids, _ = prompt.encode_prompt(chat, "one", "en", "de")
    turn = chat.apply_chat_template(
        [{"role": "user", "content": "To German: one"}], tokenize=False, add_generation_prompt=True
    )
    assert ids == chat(turn, add_special_tokens=False)["input_ids"]
    assert text(chat, ids).endswith("<|user|>\nTo German: one</s>\n<|assistant|>\n")


def test_white_space_around_a_source_is_not_in_its_span(chat, tokenizer):
    for prompt, one in ((Prompt("{source}", "chat"), chat), (Prompt("a\n{source}\nb"), tokenizer)):
        ids, (a, b) = prompt.encode_prompt(one, "\n one two\n", "en", "de")
        assert text(one, ids[a:b]).strip(" ") == "one two"


def test_a_chat_template_that_changes_the_text_is_refused():
    shouting = tokenizer_with([], CHATML.replace("m['content']", "m['content'] | upper"))
    with pytest.raises(InputError, match="chat template"):
        Prompt("{source}", "chat").encode_prompt(shouting, "one", "en", "de")


def test_a_chat_template_asks_the_same_every_day():
    """Llama 3's template writes today's date unless it is given one."""
    dated = tokenizer_with(
        [], "{% if not date_string is defined %}{% set date_string = strftime_now('%H:%M:%S.%f') %}{% endif %}"
        "Today: {{ date_string }}\n" + CHATML
    )  # fmt: skip
    ids, _ = Prompt("{source}", "chat").encode_prompt(dated, "one", "en", "de")
    assert text(dated, ids).startswith("Today: 26 Jul 2024\n")


@pytest.mark.parametrize("prompt", [TAGS, Prompt("To {target_name}: {source}", "chat")], ids=["plain", "chat"])
def test_a_model_decodes_from_what_it_was_trained_on(chat, prompt):
    """Even where prompt and target would merge into one token, as `t` + `h` do here."""
    for source, target in (("cat", "her"), ("t", "h"), ("", "x")):
        ids, span = prompt.encode_prompt(chat, source, "en", "t")
        encoded = prompt.encode(chat, source, target, "en", "t")
        assert list(encoded.ids[: encoded.prompt_length]) == ids
        assert encoded.source == span
    joined = Prompt("{source}").encode(chat, "t", "h", "en", "es")
    assert len(joined.ids) == 4, "bos, t, h, eos"


@pytest.mark.parametrize("template", ["<{source_code}> {source} <{target_code}>", "a {source}  b", "{source}"])
def test_an_empty_source_has_an_empty_span(tokenizer, template):
    for source in ("", "  "):
        ids, (start, end) = Prompt(template).encode_prompt(tokenizer, source, "en", "es")
        assert start == end <= len(ids)


def test_an_empty_target_has_an_empty_span(tokenizer):
    encoded = TAGS.encode(tokenizer, "one", "", "en", "es")
    assert encoded.target == (encoded.prompt_length, encoded.prompt_length)
    assert encoded.ids[-1] == tokenizer.eos_token_id


def test_the_first_token_is_the_tokenizers(tokenizer):
    ids, _ = TAGS.encode_prompt(tokenizer, "one", "en", "es")
    assert ids[0] == tokenizer.bos_token_id
    assert text(tokenizer, ids[1:]) == "<en> one <es>"
    without = tokenizer_with([], bos=None)
    ids, (start, end) = TAGS.encode_prompt(without, "one", "en", "es")
    assert text(without, ids) == "<en> one <es>"
    assert text(without, ids[start:end]) == "one"


def test_braces_that_are_no_field_are_text(tokenizer):
    prompt = Prompt('{"from": "{source_name}", "text": "{source}"}')
    ids, (start, end) = prompt.encode_prompt(tokenizer, "{target_code}", "en", "es")
    assert text(tokenizer, ids[1:]) == '{"from": "English", "text": "{target_code}"}'
    assert text(tokenizer, ids[start:end]) == "{target_code}"


def test_names_of_languages():
    assert language_name("tr") == "Turkish"
    assert language_name("es-reversed") == "es-reversed"
    filled = Prompt("{source_name}-{source_code}-{target_name}-{target_code}\n{source}")
    tokenizer = tokenizer_with([])
    ids, _ = filled.encode_prompt(tokenizer, "x", "hi", "q-x")
    assert text(tokenizer, ids[1:]) == "Hindi-hi-q-x-q-x\nx"


def test_many_pairs_are_encoded_like_each(tokenizer):
    pairs = [("one", "eins"), ("the two", "die zwei")]
    assert encode_pairs(TAGS, tokenizer, pairs, "en", "de") == [TAGS.encode(tokenizer, *p, "en", "de") for p in pairs]


@pytest.mark.parametrize(("tag", "head"), [("", ""), ("<{code}>", "<de>")])
def test_a_monolingual_sentence(tokenizer, tag, head):
    encoded = encode_text(tokenizer, "the end", "de", tag)
    assert text(tokenizer, encoded.ids) == f"<s>{head}the end</s>"
    assert text(tokenizer, encoded.ids[slice(*encoded.target)]) == "the end"
    assert text(tokenizer, encoded.ids[: encoded.prompt_length]) == f"<s>{head}"
    assert encoded.source == (0, 0)
    other = encode_text(tokenizer, "a much longer text", "de", tag)
    assert encode_texts(tokenizer, ["the end", "a much longer text"], "de", tag) == [encoded, other], "no padding"
    assert encode_texts(tokenizer, [], "de", tag) == []
