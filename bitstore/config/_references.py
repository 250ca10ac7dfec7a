"""The table `references` of a tier with a URL: where each blob lies, in place of a prefix or key template."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from bitstore._packs.source import DigestReferences, Md5References, Sha1References, Sha256References
from bitstore.config._tier import SIZE, Context, Table, about

__all__ = ["ReferencesTable"]

_KINDS: dict[str, type[DigestReferences]] = {
    "sha1": Sha1References,
    "sha256": Sha256References,
    "md5": Md5References,
}


class ReferencesTable(Table, kw_only=True):
    """A table that says where each blob lies: see `DigestReferences`."""

    what: ClassVar[str] = "a references table"

    table: Annotated[str, about("Path of the table: SQLite, Parquet, Arrow, CSV or compiled.", minLength=1)]
    columns: Annotated[
        dict[str, str] | None, about("Names of columns by what they are: `digest`, `url`, `offset`, `length`.")
    ] = None
    sql_table: Annotated[str | None, about("Name of the table in a SQLite file; default: the only one.")] = None
    compiled: Annotated[
        str | None, about("Path of the sorted form of the table; default: beside it, as `NAME.bitrefs`.", minLength=1)
    ] = None
    gap: Annotated[
        int | str, about("The most bytes between two parts that are read along with them.", pattern=SIZE)
    ] = "64KiB"

    read_ahead: Annotated[
        int | str, about("Memory for what is read ahead; 0: only what is wanted is read.", pattern=SIZE)
    ] = "64MiB"

    def store(self, context: Context, url: str, options: dict[str, Any]) -> DigestReferences:
        """The source, of which relative URLs are appended to `url`."""
        return _KINDS[context.algorithm](
            context.path(self.table, "references.table"),
            base_url=url,
            columns=self.columns,
            sql_table=self.sql_table,
            compiled=None if self.compiled is None else context.path(self.compiled, "references.compiled"),
            gap=self.gap,
            read_ahead=self.read_ahead,
            **options,
        )
