"""What a configuration file says besides its tiers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from bitstore._support.digests import ALGORITHMS
from bitstore.config._money import BudgetTable
from bitstore.config._order import OrderTable
from bitstore.config._python import PATH, imported
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

    on_answer: Annotated[
        str | None,
        about(
            "Import path of a function that is called with each answer of a tier: `package.module:name`.", pattern=PATH
        ),
    ] = None
    budget: Annotated[
        str | BudgetTable | None,
        about("A hard cap on what is spent: money (`25 USD`, for each process), or a table."),
    ] = None
    order: Annotated[
        Literal["written", "learned"] | OrderTable,
        about(
            "How free sources that stand together are asked: as they are written, or by what they have answered so far "
            "(`learned`, or a table that says more)."
        ),
    ] = "written"
    hedge: Annotated[
        float | None,
        about(
            "The largest share of the lookups in which the next free source is asked as well where one is slow.",
            exclusiveMinimum=0,
            maximum=0.5,
        ),
    ] = None
    otel: Annotated[bool, about("Whether lookups are reported to OpenTelemetry.")] = False

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the composite. Raises ValueError where an import path names nothing."""
        told = None if self.on_answer is None else imported(self.on_answer, "on_answer")
        return {
            "call_when_uncertain": self.call_when_uncertain,
            "pay_unkept": self.pay_unkept,
            "on_answer": told,
            "hedge": self.hedge,
        }
