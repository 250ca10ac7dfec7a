"""The options that `FetchBlobs` and `fetch_blobs` share; their defaults stand in `FetchBlobs`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from bitstore._frames.frame_options import FrameOptions

if TYPE_CHECKING:
    from ray_integration._node.decoding import Decode
    from ray_integration._node.forms import DecodedType
    from ray_integration._pool.pool import NodePool

__all__ = ["FetchOptions", "Routing", "shows_options_of"]

Routing: TypeAlias = Literal["direct", "local", "owner"]
Function = TypeVar("Function", bound=Callable[..., Any])


class FetchOptions(FrameOptions, total=False):
    """Keywords of `FetchBlobs`, but for `batch_rows`, which `fetch_blobs` calls `batch_size`."""

    block_bytes: int | str
    pool: NodePool | None
    routing: Routing | None
    decode: Callable[[bytes], Any] | Decode | None
    decoded_type: DecodedType


def shows_options_of(kind: type) -> Callable[[Function], Function]:
    """Let `inspect.signature` of a function show the options that it hands on to `kind`, with their defaults."""

    def show(function: Function) -> Function:
        own = inspect.signature(function)
        *named, _ = own.parameters.values()
        known = inspect.signature(kind).parameters
        handed_on = [known[name] for name in FetchOptions.__annotations__]
        function.__signature__ = own.replace(parameters=[*named, *handed_on])  # type: ignore[attr-defined]
        return function

    return show
