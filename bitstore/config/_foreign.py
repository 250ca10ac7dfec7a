"""Tiers of a configuration file whose bytes another library's client fetches: fsspec's or obstore's."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from bitstore._raw.foreign import told
from bitstore._raw.fsspec_raw import FsspecRaw
from bitstore._raw.obstore_raw import ObstoreRaw
from bitstore.config._expand import expand_values
from bitstore.config._tier import Context, about
from bitstore.config._urls import ABSENCE, URLTier
from bitstore.store import Store

__all__ = ["CLIENTS", "FsspecTier", "ObstoreTier"]

# A file runs no code, and this file system fills in templates of which any part may be an expression.
_RUNS_CODE = frozenset({"reference"})


class _ForeignTier(URLTier, kw_only=True):
    """What both have."""

    client: str
    options: dict[str, Any] | None = None
    missing_bucket: Annotated[
        str | None,
        about("What a bucket that is not there means: `failure`, or all of its blobs are `missing`.", enum=ABSENCE),
    ] = None

    def raw_store(self, context: Context) -> Store:
        scheme, separator, rest = self.prefix(context).partition("://")
        if not separator or not scheme.isidentifier():
            raise ValueError(f"url = {self.url!r}: expected a URL, such as az://container/files/")
        root = f"{scheme}://" + ("/" if rest.startswith("/") else rest.partition("/")[0])
        options = expand_values(self.options or {}, "options") if context.from_file else self.options or {}
        how = {} if self.missing_bucket is None else {"missing_bucket": self.missing_bucket}
        what = {"root": root if self.client == "obstore" else scheme, "options": options, "how": how}
        made: Store = context.once(self.client, what, self.made)
        return made

    @staticmethod
    def made(root: str, options: dict[str, Any], how: dict[str, Any]) -> Store:
        """The raw store. Raises ValueError for what the library refuses."""
        raise NotImplementedError


class FsspecTier(_ForeignTier, kw_only=True):
    """Any file system of fsspec."""

    what: ClassVar[str] = 'a tier with client = "fsspec"'
    raw: ClassVar[type[Store]] = FsspecRaw

    url: Annotated[str, about("A prefix or key template of any protocol that fsspec knows.", pattern=r"^\w+://")]
    client: Annotated[str, about('`"fsspec"`: a file system of fsspec fetches the bytes.', enum=["fsspec"])]
    options: Annotated[
        dict[str, Any] | None,
        about("Options of the file system. `${NAME}` in a text stands for an environment variable."),
    ] = None

    @staticmethod
    def made(root: str, options: dict[str, Any], how: dict[str, Any]) -> Store:
        if root in _RUNS_CODE:
            raise ValueError(f"url: a configuration runs no code, and templates of {root}:// are code")
        try:
            import fsspec

            return FsspecRaw(fsspec.filesystem(root, **options), **how)
        except ModuleNotFoundError as error:
            raise ValueError(f"client = 'fsspec': {error}") from error
        except Exception as error:  # each file system refuses options in its own way
            raise ValueError(f"client = 'fsspec': {told(error)}") from error


class ObstoreTier(_ForeignTier, kw_only=True):
    """Any store of obstore."""

    what: ClassVar[str] = 'a tier with client = "obstore"'
    raw: ClassVar[type[Store]] = ObstoreRaw

    url: Annotated[str, about("A prefix or key template of any scheme that obstore knows.", pattern=r"^\w+://")]
    client: Annotated[str, about('`"obstore"`: a store of obstore fetches the bytes.', enum=["obstore"])]
    options: Annotated[
        dict[str, Any] | None,
        about("Options of `obstore.store.from_url`. `${NAME}` in a text stands for an environment variable."),
    ] = None

    @staticmethod
    def made(root: str, options: dict[str, Any], how: dict[str, Any]) -> Store:
        try:
            from obstore.store import from_url

            return ObstoreRaw(from_url(root, **options), url=root, **how)
        except ModuleNotFoundError as error:
            raise ValueError(f"client = 'obstore': {error}: pip install 'epic-bitstore[obstore]'") from error
        except Exception as error:  # the classes of obstore's errors are not public
            raise ValueError(f"client = 'obstore': {told(error)}") from error


CLIENTS: dict[str, type[URLTier]] = {"fsspec": FsspecTier, "obstore": ObstoreTier}
