"""The table of a configuration file about the order in which free sources are asked."""

from __future__ import annotations

from typing import Annotated, ClassVar

from bitstore._tiers.order import EXPLORE, LearnedOrder, order_of
from bitstore.config._python import PATH, imported
from bitstore.config._tier import Context, Table, about

__all__ = ["OrderTable", "learned_order"]


class OrderTable(Table, kw_only=True):
    """How the order of free sources is learned: see `LearnedOrder`."""

    what: ClassVar[str] = "an order table"

    explore: Annotated[
        float, about("Share of the lookups that ask another source first, to learn.", minimum=0, maximum=0.5)
    ] = EXPLORE
    cohort: Annotated[str | None, about("What the order is learned for; each text has an order of its own.")] = None
    cohort_of: Annotated[
        str | None,
        about(
            "In place of `cohort`: import path of a function that returns it for a digest, `package.module:name`.",
            pattern=PATH,
        ),
    ] = None
    path: Annotated[
        str | None, about("Path of a file in which processes leave what they have learned for later ones.", minLength=1)
    ] = None

    def order(self, context: Context) -> LearnedOrder:
        """The order that the table describes. Raises ValueError, which names the key."""
        if self.cohort is not None and self.cohort_of is not None:
            raise ValueError("cohort and cohort_of exclude each other")
        function = None if self.cohort_of is None else imported(self.cohort_of, "cohort_of")
        path = None if self.path is None else context.path(self.path, "path")
        return LearnedOrder(explore=self.explore, cohort=function or self.cohort, path=path)


def learned_order(value: str | OrderTable, context: Context) -> LearnedOrder | None:
    """The order that the key `order` means; None: as written. Raises ValueError where it means none."""
    return value.order(context) if isinstance(value, OrderTable) else order_of(value)
