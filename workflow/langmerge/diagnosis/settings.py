"""What decides a diagnosis: the checked form of its spec."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from langmerge.provenance import InputError


class Settings(BaseModel):
    """The spec of a diagnosis.

    ``base`` is the common ancestor's name (None: there is none, and no task vectors), ``pairs`` the pairs of names and
    ``languages`` the language of each model in a pair; the text of ``pivot`` is in every folder of texts (None: there
    is no such language). ``sentences`` of ``split`` are read by each model, ``gradients`` of them at the base (0:
    none); ``tag`` stands before each as in training. ``points`` lie on a line, ends included. ``density`` is what TIES
    keeps, ``directions`` the dimension of the principal subspaces of activations, ``blocks`` those of the jackknife.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str | None
    pairs: tuple[tuple[str, str], ...] = Field(min_length=1)
    languages: dict[str, str]
    pivot: str | None = None
    split: str = "dev"
    sentences: int = Field(default=64, ge=4)
    points: int = Field(default=11, ge=3)
    gradients: int = Field(default=32, ge=0)
    blocks: int = Field(default=8, ge=2)
    density: float = Field(default=0.2, gt=0, le=1)
    directions: int = Field(default=8, ge=1)
    tag: str = ""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _names(self) -> Settings:
        unknown = [name for pair in self.pairs for name in pair if name not in self.languages]
        if unknown:
            raise ValueError(f"`languages` lacks {', '.join(dict.fromkeys(unknown))}; expected one for each model")
        if same := [a for a, b in self.pairs if a == b]:
            raise ValueError(f"`pairs` has {same[0]!r} with itself; expected two models")
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError("`pairs` has a pair twice; expected each once")
        return self

    @property
    def models(self) -> list[str]:
        """Every model in a pair once, in order of appearance."""
        return list(dict.fromkeys(name for pair in self.pairs for name in pair))

    @property
    def codes(self) -> list[str]:
        """Every language of a model in a pair once, in order of appearance."""
        return list(dict.fromkeys(self.languages[name] for name in self.models))

    def readings(self) -> list[tuple[str, str]]:
        """(model, language) of every reading that some pair needs, each once and those of a model together."""
        needed = {
            (name, self.languages[other]) for pair in self.pairs for name in pair for other in pair
        }  # its own language too, since a model is one of its pair
        return [(name, code) for name in self.models for code in self.codes if (name, code) in needed]


def check(spec: Any) -> Settings:
    """The checked form of a spec; :class:`InputError` lists every wrong key and what it must be."""
    try:
        return Settings.model_validate(spec)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'spec'}: {e['msg']}" for e in error.errors()]
        raise InputError("the spec of the diagnosis is not valid; mend these keys:\n" + "\n".join(lines)) from None
