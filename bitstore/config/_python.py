"""Tiers of a configuration file whose store is a class of the user's, named by its import path."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, ClassVar

import msgspec

from bitstore._digests.api_source import DigestAPISource
from bitstore._digests.mixins import VerifyDigestMixin
from bitstore._limits.calls import WAIT, CallLimit
from bitstore.config._expand import expand_values
from bitstore.config._money import PRICE, PriceTable, price_of
from bitstore.config._tier import Context, ReadTier, Table, about
from bitstore.store import Store

__all__ = ["PATH", "LimitTable", "PythonTier", "imported"]

PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
"""What an import path looks like, for the schema."""


class LimitTable(Table, kw_only=True):
    """What an API source may do: see `CallLimit`."""

    what: ClassVar[str] = "a limit table"

    name: Annotated[str, about("Name of the account with the API; equal names in one state file count together.")]
    per_second: Annotated[int | None, about("The most calls in a second.", minimum=1)] = None
    per_minute: Annotated[int | None, about("The most calls in a minute.", minimum=1)] = None
    per_day: Annotated[int | None, about("The most calls in a day.", minimum=1)] = None
    budget: Annotated[int | None, about("The most calls in all, ever.", minimum=1)] = None
    state: Annotated[
        str | None, about("Path of a file in which calls are counted, for all processes of this machine.", minLength=1)
    ] = None
    wait: Annotated[
        float, about("Seconds that a lookup may wait for its turn; `inf`: as long as its time limit allows.", minimum=0)
    ] = WAIT

    def limit(self, context: Context) -> CallLimit:
        """The limit that the table describes. Equal tables are one limit."""
        state = None if self.state is None else context.path(self.state, "state")
        return context.once("limit", {**msgspec.structs.asdict(self), "state": state}, CallLimit)


class PythonTier(ReadTier, kw_only=True):
    """A store of a class of the user's, or one that a user's function makes."""

    what: ClassVar[str] = "a tier with python = ..."

    python: Annotated[
        str,
        about(
            "Import path of a store's class, or of a function without arguments that returns a store: "
            "`package.module:Name`.",
            pattern=PATH,
        ),
    ]
    options: Annotated[
        dict[str, Any] | None,
        about("Keyword arguments of the class. `${NAME}` in a text stands for an environment variable."),
    ] = None
    verify: Annotated[
        bool | None, about("Whether bytes must match their digest; default: yes, where the store can check it.")
    ] = None
    limit: Annotated[LimitTable | None, about("Of an API source: how many calls it may make.")] = None
    price: Annotated[str | PriceTable | None, about(f"Of an API source. {PRICE}")] = None
    remember_missing: Annotated[
        float | None,
        about("Of an API source: seconds for which a digest that it lacks is not asked for again.", minimum=0),
    ] = None

    def store(self, context: Context) -> Store:
        """What the class or function returns, with the options of an API source that the file gives."""
        store: Store = self._made()
        for key, value in (
            ("limit", None if self.limit is None else self.limit.limit(context)),
            ("remember_missing", self.remember_missing),
            ("price", price_of(self.price)),
        ):
            if value is not None:
                if not isinstance(store, DigestAPISource):
                    raise ValueError(f"{key}: {type(store).__name__} does not have it, because it is no API source")
                setattr(store, key, value)
        # Stores of a file verify unless it says otherwise; others have no such attribute.
        if isinstance(store, VerifyDigestMixin):
            store.verify = self.verify is not False  # type: ignore[attr-defined]
        elif self.verify is not None:
            raise ValueError(f"verify: {type(store).__name__} does not have it; add VerifyDigestMixin, or leave it out")
        return store

    def _made(self) -> Any:
        found = imported(self.python, "python")
        options: dict[str, Any] = {}
        if self.options is not None:
            # A file names a store, and runs no other code: with arguments, many a function or class would.
            if not (isinstance(found, type) and hasattr(found, "get") and hasattr(found, "is_valid")):
                raise ValueError(f"options: {self.python!r} is no class of a store, and only such a class takes them")
            options = expand_values(self.options, "options")
        try:
            return found(**options)
        except (Exception, SystemExit) as error:  # the tier's name must stand beside any error of a user's module
            raise ValueError(f"python = {self.python!r} raised {type(error).__name__}: {error}") from error


def imported(path: str, key: str) -> Any:
    """What `path` (`package.module:Name`), the value of `key`, names. Raises ValueError where that is nothing."""
    module, colon, name = path.partition(":")
    if not (colon and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])):
        raise ValueError(f"{key} = {path!r}: expected 'package.module:function'")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ValueError(f"{key} = {path!r}: {error}") from error
    except ModuleNotFoundError as error:
        raise ValueError(f"{key} = {path!r}: {error} (is it installed, or on PYTHONPATH?)") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{key} = {path!r} raised {type(error).__name__}: {error}") from error
    return found
