"""How a sentence pair becomes tokens: one place, so that training, decoding and analysis see the same sequences.

A sequence is ``prompt tokens + target tokens + end``. Prompt and target are tokenised apart, so that the prompt that a
model decodes from is token for token the one that it was trained on, and the target span is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from langmerge.provenance import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PromptFormat = Literal["plain", "chat"]

# Stands for the user's text where only the chat template around it is asked for.
CONTENT = "\ue000"
# Templates that tell the model what day it is (Llama 3) would otherwise ask differently tomorrow.
DATE = "26 Jul 2024"

# English names of languages, as instruction-tuned models are asked with.
LANGUAGE_NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fa": "Persian",
    "fi": "Finnish",
    "fo": "Faroese",
    "fr": "French",
    "ha": "Hausa",
    "hi": "Hindi",
    "ht": "Haitian Creole",
    "hu": "Hungarian",
    "id": "Indonesian",
    "ig": "Igbo",
    "is": "Icelandic",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "yo": "Yoruba",
    "zh": "Chinese",
}


def language_name(code: str) -> str:
    """The English name of a language code; the code itself where we know none (transformed languages)."""
    return LANGUAGE_NAMES.get(code, code)


@dataclass(frozen=True)
class Encoded:
    """One sequence of T tokens.

    ``prompt_length`` tokens of prompt come first. ``source`` and ``target`` are half-open token spans that hold the
    source and the target sentence only: no template, instruction or special token.
    """

    ids: tuple[int, ...]
    prompt_length: int
    source: tuple[int, int]
    target: tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """A prompt template with ``{source}``, ``{source_code}``, ``{target_code}``, ``{source_name}``, ``{target_name}``.

    ``format`` is ``plain`` (the text as it is, after the beginning-of-sequence token if there is one) or ``chat`` (the
    text is the user's turn in the tokenizer's own chat template). Other braces are text.
    """

    template: str
    format: PromptFormat = "plain"

    def _text(self, source: str, source_code: str, target_code: str) -> tuple[str, int]:
        """The filled template and the character offset of the source sentence (without white space around it) in it."""
        fields = {
            "{source_code}": source_code,
            "{target_code}": target_code,
            "{source_name}": language_name(source_code),
            "{target_name}": language_name(target_code),
        }
        filled = self.template
        for name, value in fields.items():
            filled = filled.replace(name, value)
        before, after = filled.split("{source}")
        return before + source + after, len(before) + len(source) - len(source.lstrip())

    def encode_prompt(
        self, tokenizer: PreTrainedTokenizerBase, source: str, source_code: str, target_code: str
    ) -> tuple[list[int], tuple[int, int]]:
        """Token ids of the prompt and the token span of the source sentence in it (an empty span for an empty one)."""
        text, start = self._text(source, source_code, target_code)
        if self.format == "chat":
            text, shift = _chat_turn(tokenizer, text)
            start += shift
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = list(encoding["input_ids"])
        end = start + len(source.strip())
        places = encoding["offset_mapping"] if start < end else []
        inside = [i for i, (a, b) in enumerate(places) if a < end and b > start and b > a]
        span = (inside[0], inside[-1] + 1) if inside else (0, 0)
        if self.format == "plain" and tokenizer.bos_token_id is not None:
            ids.insert(0, tokenizer.bos_token_id)
            span = (span[0] + 1, span[1] + 1)
        return ids, span

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, source: str, target: str, source_code: str, target_code: str
    ) -> Encoded:
        """The whole teacher-forced sequence of one sentence pair, closed by the end-of-sequence token."""
        prompt, span = self.encode_prompt(tokenizer, source, source_code, target_code)
        answer: list[int] = list(tokenizer(target, add_special_tokens=False)["input_ids"])
        ids = [*prompt, *answer, tokenizer.eos_token_id]
        return Encoded(tuple(ids), len(prompt), span, (len(prompt), len(prompt) + len(answer)))


def _chat_turn(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, int]:
    """``text`` as the user's turn of the tokenizer's chat template, and by how many characters it moved to the right.

    Raises :class:`InputError` if the template does more to the text than trimming it.
    """

    def render(content: str) -> str:
        messages = [{"role": "user", "content": content}]
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=DATE)
        )

    # Not `turn.find(text)`: a short text may occur in the template as well.
    turn, opening = render(text), render(CONTENT).find(CONTENT)
    if opening >= 0 and turn.startswith(text, opening):
        return turn, opening
    if opening >= 0 and turn.startswith(text.strip(), opening):
        return turn, opening - (len(text) - len(text.lstrip()))
    raise InputError(
        f"prompt.format: the chat template of {tokenizer.name_or_path} does not show the user's text as it is; "
        "use format: plain and write the turn into prompt.template"
    )


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], code: str, tag: str = "") -> list[Encoded]:
    """Sentences for language modelling: ``tag`` (formatted with ``{code}``), text, end of sequence each."""
    head: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if tag:
        head += tokenizer(tag.format(code=code), add_special_tokens=False)["input_ids"]
    if not texts:
        return []
    # All at once takes half of the time of one after another
    bodies = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return [
        Encoded((*head, *body, tokenizer.eos_token_id), len(head), (0, 0), (len(head), len(head) + len(body)))
        for body in bodies
    ]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, code: str, tag: str = "") -> Encoded:
    """One sentence of :func:`encode_texts`."""
    return encode_texts(tokenizer, [text], code, tag)[0]


def encode_pairs(
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    source_code: str,
    target_code: str,
) -> list[Encoded]:
    """Encode many sentence pairs of one direction."""
    return [prompt.encode(tokenizer, source, target, source_code, target_code) for source, target in pairs]
