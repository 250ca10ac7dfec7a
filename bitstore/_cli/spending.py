"""The options of commands that spend: how much, and where it is counted; and the receipt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import typer

from bitstore._digests.composite import DigestComposite
from bitstore._limits.budget import Budget
from bitstore._support.sizes import parse_size
from bitstore.config import ConfigError
from bitstore.errors import StoreNotAvailable

__all__ = ["BudgetOptions", "receipt_lines", "spent_keys"]

_COUNT = re.compile(r"\s*([0-9][0-9_,]{0,30})\s*(calls?|requests?)\s*", re.IGNORECASE | re.ASCII).fullmatch


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """How much may be spent."""

    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="25USD|900calls|10GB",
            help="Stop before more is spent: money, calls (of paid tiers), requests, or bytes; may be repeated.",
        ),
    ] = None
    budget_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Count it in this file, together with other processes and earlier runs."),
    ] = None

    def caps(self) -> dict[str, Any]:
        """The caps by the names of the constructor of a budget. Raises ConfigError for what is none."""
        caps: dict[str, Any] = {}
        for text in self.budget or ():
            kind, cap = _cap(text)
            if kind in caps:
                raise ConfigError(f"--budget {text}: there is another cap of this kind already")
            caps[kind] = cap
        return caps

    def give(self, composite: DigestComposite, *, for_cluster: bool = False) -> Budget | None:
        """The budget that `composite` pays from: what the options say, else what its configuration does; None: none.

        Parameters
        ----------
        composite
            The stores.
        for_cluster
            Whether the processes of a Ray cluster will pay, all of them from one budget.

        Raises
        ------
        ConfigError
            It is no budget, or cannot hold.
        """
        caps, configured = self.caps(), composite.budget
        if self.budget_file is not None and not self.budget_file.strip():
            raise ConfigError("--budget-file is empty: name a file, or leave it out")
        if not caps and self.budget_file is None and (configured is None or not for_cluster):
            return configured
        if configured is not None and not caps:
            caps = {kind: cap for kind in ("most", "calls", "requests", "bytes") if (cap := getattr(configured, kind))}
        where: dict[str, Any] = {} if configured is None else {"name": configured.name, "state": configured.state}
        if self.budget_file is not None:
            where["state"] = Path(self.budget_file).expanduser().absolute()
        kind: type[Budget] = Budget
        if for_cluster:
            kind = _cluster_budget()
            # Without a file, nothing that other commands have spent counts.
            where["name"] = where.get("name") or (f"warm {token_hex(6)}" if where.get("state") is None else "budget")
        try:
            composite.budget = kind(**caps, **where)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--budget: {error}") from error
        return composite.budget


def _cluster_budget() -> type[Budget]:
    try:
        from ray_integration import ClusterBudget
    except ImportError as error:
        raise ConfigError(f"--ray: {error}; pip install 'epic-bitstore[ray]'") from error
    return ClusterBudget


def _cap(text: str) -> tuple[str, Any]:
    if (count := _COUNT(text)) is not None:
        return ("calls" if count[2].lower().startswith("call") else "requests"), int(re.sub("[_,]", "", count[1]))
    try:
        if not text.strip().isdigit():  # it may be meant as any of them
            return "bytes", parse_size(text)
    except ValueError:
        pass
    try:
        return "most", Budget(text).most
    except (ValueError, TypeError):
        raise ConfigError(
            f"--budget {text!r}: give money (25USD), calls (900calls), requests or a size (10GB)"
        ) from None


def receipt_lines(budget: Budget | None) -> list[str]:
    """What was spent, in words, with the sources that it was spent at."""
    if budget is None:
        return []
    try:
        receipt, total = budget.receipt(), budget.spent
    except StoreNotAvailable as error:
        return [f"spent: unknown ({error.reason})"]
    where = f", as {budget.state} says" if budget.state else ""
    return [f"spent: {total} of {budget}{where}", *(f"  {name}: {spent}" for name, spent in receipt.items())]


def spent_keys(budget: Budget | None) -> list[dict[str, Any]] | None:
    """What was spent at each source, for JSON; None: there is no budget, or it cannot be read."""
    if budget is None:
        return None
    try:
        receipt = budget.receipt()
    except StoreNotAvailable:
        return None
    return [
        {
            "source": name,
            "money": None if spent.money is None else f"{spent.money.amount:f}",
            "currency": None if spent.money is None else spent.money.currency,
            "calls": spent.calls,
            "requests": spent.requests,
            "bytes": spent.bytes,
        }
        for name, spent in receipt.items()
    ]
