"""What a configuration file says besides its tiers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from bitstore._support.digests import ALGORITHMS
from bitstore.config._tier import Table, about

__all__ = ["File"]


class File(Table, kw_only=True):
    """Where blobs are: the tiers in the order in which they are asked."""

    what: ClassVar[str] = "a configuration"

    algorithm: Annotated[str, about("Which hashes name the blobs.", enum=[*ALGORITHMS])]
    tier: Annotated[list[dict[str, Any]], about("The tiers, in the order in which they are asked.", minItems=1)]
    call_when_uncertain: Annotated[
        bool, about("Whether paid tiers are asked although an earlier tier failed and may hold the blob.")
    ] = False
    pay_unkept: Annotated[bool, about("Whether paid tiers are asked although no cache can keep what they return.")] = (
        False
    )

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the composite."""
        return {"call_when_uncertain": self.call_when_uncertain, "pay_unkept": self.pay_unkept}
