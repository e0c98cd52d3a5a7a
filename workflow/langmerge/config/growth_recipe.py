"""A model grown from a smaller one, as studies write it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from langmerge import growth
from langmerge.config.base import Section


class Growing(Section):
    """How a model is made larger, without training."""

    method: str = Field(
        "hyperclone",
        description="`hyperclone` (width), or for depth `identity`, `stack`, `dus`. "
        "`hyperclone` and `identity` preserve the function of the parent.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="The method's parameters. `hyperclone`: `width`, `heads`, `form`, `noise`, `snr_db`, `seed`; "
        "the others: `depth`.",
    )

    @model_validator(mode="after")
    def _known(self) -> Growing:
        growth.check(self.method, self.parameters)
        return self

    @property
    def preserves(self) -> bool:
        """Whether the grown model computes the parent's function at first."""
        return growth.METHODS[self.method].preserves

    @property
    def noisy(self) -> bool | None:
        """Whether copies are told apart by noise; None for methods that make no copies side by side."""
        if "noise" not in growth.METHODS[self.method].parameters:
            return None
        return bool(growth.check(self.method, self.parameters)["noise"])

    def with_noise(self, noise: bool) -> Growing:
        """The same growth with noise or without it."""
        return Growing(method=self.method, parameters=self.parameters | {"noise": noise})

    def spec(self, seed: int | None = None) -> dict[str, Any]:
        """The spec of a `grow_model` job; ``seed`` is the noise's where the parameters name none."""
        known = growth.METHODS[self.method].parameters
        own = {"seed": seed} if seed is not None and "seed" in known else {}
        return {"method": self.method, **growth.check(self.method, own | self.parameters)}

    def architecture(self, parent: dict[str, Any]) -> dict[str, Any]:
        """Fields of the grown model's configuration, from the parent's; for predictions.

        Raises ValueError if the depth makes no whole number of layers.
        """
        return growth.grown_config(parent, self.method, growth.check(self.method, self.parameters))


class GrowSpec(Growing):
    """A larger model made from the weights of a smaller one, without training."""

    parent: str = Field(description="Name of the model that is grown.")
