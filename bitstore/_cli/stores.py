"""Which stores a command asks: those of a configuration file, or those that its options name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitstore._digests.stores import DigestComposite
from bitstore.config import ConfigError, from_urls, load

__all__ = ["Stores"]


@dataclass(frozen=True)
class Stores:
    """What the options say.

    Attributes
    ----------
    config
        `--config`.
    urls
        `--store`, each time it was given.
    cache, compression, anonymous
        `--cache`, `--compression`, `--anonymous`, which go with `--store`.
    """

    config: Path | None
    urls: tuple[str, ...]
    cache: str | None
    compression: str | None
    anonymous: bool

    def composite(self, algorithm: str | None) -> DigestComposite:
        """The composite.

        Parameters
        ----------
        algorithm
            That of `urls`; a configuration file says its own.

        Raises
        ------
        ConfigError
            The options do not go together, or cannot be.
        """
        if not self.urls:
            for name, value in self._with_urls():
                if value:
                    raise ConfigError(f"{name} goes with --store; a configuration file describes all of its tiers")
            return load(self.config)
        if self.config is not None:
            raise ConfigError("--config and --store exclude each other: leave one out")
        if algorithm is None:
            raise ConfigError("nothing says by which hashes the blobs are named")
        options: dict[str, Any] = {"compression": self.compression} if self.compression else {}
        if self.anonymous:
            options["anonymous"] = True
        return from_urls(list(self.urls), algorithm=algorithm, cache=self.cache, **options)

    def arguments(self) -> list[str]:
        """The options, as another command can be given them."""
        said = ["--config", str(self.config)] if self.config else []
        for url in self.urls:
            said += ["--store", url]
        for name, value in self._with_urls():
            if value:
                said += [name] if value is True else [name, str(value)]
        return said

    def _with_urls(self) -> tuple[tuple[str, str | bool | None], ...]:
        return ("--cache", self.cache), ("--compression", self.compression), ("--anonymous", self.anonymous)
