"""The study of distance: one language and its transforms, equally hard by construction, merged in pairs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from langmerge.config.base import Language, Positive, Share
from langmerge.config.corpus import FilesCorpus
from langmerge.config.language_study import LanguageStudy
from langmerge.config.recipes import Training


class Distance(LanguageStudy):
    """Which kind of distance between two languages makes merging their specialists fail?"""

    kind: Literal["distance"]
    base: Training = Field(
        description="Training of the common base on the text of `languages` and `origin.languages`: "
        "name all combinations there, so that none is better known than another."
    )
    weights: dict[Language, Positive] = Field(
        default_factory=dict,
        description="Weight of a language's text in the base's training, 1 where none is given: less for several that "
        "share a word order, script and agreement, so that the base knows none of these better than another.",
    )
    specialist: Training = Field(description="Training of each language's specialist from the base.")
    twin: bool = Field(
        True,
        description="A second specialist of the first language, on other sentences: the pair at distance 0.",
    )
    replay: Share = Field(0.0, description="Share of the base's mixture in the specialists' training.")

    @model_validator(mode="after")
    def _transforms(self) -> Distance:
        if isinstance(self.corpus, FilesCorpus):
            if self.corpus.transforms is None:
                raise ValueError("corpus.transforms: missing; name the `base` that the languages are transforms of")
            if strange := [code for code in self.corpora() if self.corpus.transform(code) is None]:
                raise ValueError(f"languages: {strange[0]} is no transform of {self.corpus.transforms.base}")
        if self.origin.init is None:
            raise ValueError("origin: all languages must be equally new to the model; give `init`")
        if unknown := [code for code in self.weights if code not in self.corpora()]:
            raise ValueError(f"weights: {unknown[0]} is not among languages and origin.languages, so it has no text")
        return self
