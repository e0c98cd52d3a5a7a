"""Where sentence pairs come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from langmerge.config.base import Count, Language, Name, Portion, Positive, Section, Share, fill
from langmerge.transforms import Transform, letter_table, named


class EmbeddedCorpus(Section):
    """Multi-parallel sentences generated from the grammar in `data/grammar`."""

    kind: Literal["embedded"]
    train: Count = Field(description="Sentences per language for training.")
    dev: Count = Field(description="Sentences for tuning.")
    test: Count = Field(description="Sentences for reporting.")
    nouns: Count | None = Field(None, description="At most so many nouns of each class of the world; all when empty.")
    verbs: Count | None = Field(None, description="At most so many verbs of each frame; all when empty.")
    adjectives: Count | None = Field(None, description="At most so many adjectives; all when empty.")
    two_clauses: bool = Field(True, description="Whether some sentences have two clauses (and, but, because).")
    held_out: Share = Field(
        0.1, description="Share of the combinations (verb and object, adjective and noun) that occur in test only."
    )
    seed: int = Field(1, description="Seed of the sampled meanings: the same seed gives the same bytes.")
    grammar: str = Field("data/grammar", description="Folder with `world.yaml` and `languages/`.")


class HubDataset(Section):
    """A dataset on the Hugging Face Hub."""

    id: str = Field(
        min_length=1, description="Repository id, such as `Helsinki-NLP/opus-100`; `{language}` is filled in."
    )
    config: str | None = Field(None, description="Configuration name; `{language}` and `{pivot}` are filled in.")
    folder: str | None = Field(
        None,
        description="Folder with the configuration's files, for revisions that list no configurations, such as "
        "`refs/convert/parquet`; the same are filled in.",
    )
    split: str = Field("train", description="Split, with slices such as `train[:1000000]`.")
    revision: str | None = Field(None, description="Commit, tag or branch; name a commit to be reproducible.")


class Source(Section):
    """Where one split's sentence pairs come from: a local file, two aligned files, or a Hub dataset."""

    path: str | None = Field(
        None,
        description="File; `{language}`, `{pivot}`, `{pair}` (as `de-en`), `{code}`, `{data_root}` are filled in.",
    )
    target_path: str | None = Field(
        None, description="The other side, for two line-aligned (Moses) files; `path` is the pivot's."
    )
    hub: HubDataset | None = Field(None, description="A Hub dataset instead of a file.")
    format: Literal["auto", "jsonl", "tsv", "parquet", "moses", "tmx"] = Field(
        "auto", description="By the file's ending when `auto`."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Language (or `pivot`, `language`, `id`) to column: `translation.en` reaches into a nested one; "
        "for tsv without a header, column numbers from 0. Columns named by language code need no entry.",
    )
    codes: dict[Language, str] = Field(
        default_factory=dict,
        description="How this source writes language codes (`hi: hin_Deva`); fills `{code}` for the language.",
    )
    one_sided: bool = Field(
        False,
        description="Whether only the language's text is read, and the pivot's side is left out (no translations).",
    )
    portion: Portion = Field(
        (0.0, 1.0),
        description="Share of the rows, from where to where, by a hash of the id: splits of a set that has one file, "
        "the same rows in every language.",
    )
    limit: Count | None = Field(None, description="At most so many pairs, the first after filtering.")

    def filled(self, pivot: str, language: str) -> Source:
        """The source of one language: `{language}`, `{pivot}`, `{pair}` (alphabetical) and `{code}` filled in."""
        fields = {
            "{language}": language,
            "{pivot}": pivot,
            "{pair}": "-".join(sorted([pivot, language])),
            "{code}": self.codes.get(language, language),
        }
        values = self.model_dump()
        for field, text in fields.items():
            values = fill(values, field, text)
        return Source.model_validate(values)

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        if self.target_path and not self.path:
            raise ValueError("`target_path` goes with `path`")
        if self.target_path and self.one_sided:
            raise ValueError("`one_sided` text has no `target_path`; give the language's file as `path`")
        if self.portion[0] >= self.portion[1]:
            raise ValueError("`portion` must be [start, end] with start < end")
        return self


class Filters(Section):
    """What is kept of real text."""

    max_words: Count | None = Field(None, description="Longest sentence in white-space words, on either side.")
    max_characters: Count = Field(2000, description="Longest sentence in characters, on either side.")
    max_length_ratio: Positive = Field(9.0, description="Largest ratio of character lengths between the sides.")
    deduplicate: bool = Field(True, description="Drop repeated pairs (case and punctuation folded).")
    drop_contaminated: bool = Field(
        True, description="Drop training pairs that share a sentence with dev or test of the same pair."
    )


class Transforms(Section):
    """Languages that are made of another's real text, named after what differs: `es-relex50-reversed-script`.

    `-relexN`: N % of the words in a cipher of letters, invented words that are no real ones; `-reversed`: the words
    between two punctuation marks in reverse; `-script`: other letters. Real text has no `-sov` and no `-noagree`.
    """

    base: Language = Field(description="The language that is transformed; other languages' text is as it stands.")
    script: dict[Literal["from", "to"], str] | None = Field(
        None, description="Letters (`from`) and those that stand for them (`to`), one for one; capitals follow."
    )
    seed: int = Field(0, description="Seed of the cipher, and of which words are replaced.")

    @model_validator(mode="after")
    def _one_to_one(self) -> Transforms:
        if self.script is not None:
            letter_table(self.script, "script")
        return self

    def named(self, language: str) -> Transform | None:
        """What a language changes of the base, None of any other's; ValueError if real text cannot be changed so."""
        found = named(language, self.base)
        if found and (found.order == "sov" or not found.agreement):
            what = "-sov (verbs last)" if found.order == "sov" else "-noagree (no agreement)"
            raise ValueError(
                f"{language}: {what} needs to know each word's part; real text has -relexN, -reversed and -script, "
                "the embedded corpus all"
            )
        if found and found.script and self.script is None:
            raise ValueError(
                f"{language}: which letters? Give `corpus.transforms.script: {{from: letters, to: letters}}`"
            )
        return found


class FilesCorpus(Section):
    """Real sentence pairs, read from files or from the Hub; splits beyond train, dev and test are further test sets."""

    kind: Literal["files"]
    splits: dict[Name, Source] = Field(description="`train`, `dev`, `test` and any further test sets.")
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}), description="What is kept.")
    transforms: Transforms | None = Field(None, description="Languages made of another's text; none when empty.")

    @field_validator("splits")
    @classmethod
    def _needed(cls, splits: dict[str, Source]) -> dict[str, Source]:
        missing = [name for name in ("train", "dev", "test") if name not in splits]
        if missing:
            raise ValueError(f"split {missing[0]} is missing; expected at least train, dev and test")
        return splits

    def transform(self, language: str) -> Transform | None:
        """What a language changes of the text that it is made of; None for text as it is.

        Raises ValueError for a transform that real text does not have.
        """
        return self.transforms.named(language) if self.transforms else None

    def source_of(self, language: str) -> str:
        """The language whose text is read for a language: itself, or the one that it is a transform of."""
        return self.transforms.base if self.transforms and self.transform(language) else language


Corpus = Annotated[EmbeddedCorpus | FilesCorpus, Field(discriminator="kind")]
