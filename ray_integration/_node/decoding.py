"""Decode functions: how they travel to the processes that have the blobs, and what becomes of a row's blob there."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, TypeAlias

from bitstore._frames.row_answer import RowAnswer
from bitstore.errors import BitstoreError, DecodeFailed, described
from ray_integration._node.forms import DecodedType, Form, TensorForm, form_of
from ray_integration._node.versions import VersionMismatch
from ray_integration._own_code import changed_code, own_code, stamp_of
from ray_integration._portable import check_portable

__all__ = ["Decode", "DecodeNotLoaded", "Decoders", "decoded"]

_MOST_BYTES = 8 << 20  # of a pickled function, which travels with each call of a node store
_MOST_FUNCTIONS = 16  # that a process keeps loaded

Function: TypeAlias = "Callable[[bytes], Any] | None"  # None: the bytes are the result


class DecodeNotLoaded(BitstoreError, RuntimeError):
    """A process cannot load the decode function; no blob was decoded there.

    Parameters
    ----------
    where
        The process.
    reason
        What was raised.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where} cannot load the decode function: {reason}. Install its modules on all nodes, or bring them with "
            "runtime_env",
            where,
            reason,
        )


class Decode:
    """A function of blobs, and the form of its results.

    It pickles without the function, which is loaded where the first blob is.

    Parameters
    ----------
    function
        Takes a blob's bytes. None: the bytes are those of an array.
    kind
        What the column holds, as for `FetchBlobs`.

    Raises
    ------
    TypeError, ValueError
        The function cannot be called, or no column can hold such results.
    """

    def __init__(self, function: Function, kind: DecodedType) -> None:
        self.form: Form = form_of(kind)
        if function is not None and not callable(function):
            raise TypeError(f"decode={function!r}: give a function that takes bytes")
        if function is None and not isinstance(kind, tuple):
            raise ValueError("decoded_type is what decode=... returns; without it, only (dtype, shape) makes sense")
        self._function = function
        self._is_loaded = True
        # What `pack` makes: the function by Ray's pickle, the hashes of the source of its modules (see `own_code`), and
        # what stands for both.
        self._pickled: bytes | None = None
        self.code: dict[str, str] = {}
        self.key = ""

    def check_numpy(self) -> None:
        """Raise ValueError if rows as NumPy arrays cannot hold the results beside rows without one."""
        if isinstance(self.form, TensorForm):
            raise ValueError("decoded_type=(dtype, shape) needs batch_format='pyarrow' (the default) or 'pandas'")

    def pack(self) -> None:
        """Pickle the function, unless that is done.

        Raises
        ------
        TypeError
            It does not pickle; the error names what does not.
        ValueError
            It is too large to travel.
        """
        if self._pickled is not None:
            return
        from ray import cloudpickle

        check_portable(self._function, "the decode function")
        pickled: bytes = cloudpickle.dumps(self._function)  # type: ignore[no-untyped-call]
        if len(pickled) > _MOST_BYTES:
            raise ValueError(
                f"the decode function pickles to {len(pickled) >> 20} MiB, and may have {_MOST_BYTES >> 20}: load what "
                "is large inside of it, at its first use"
            )
        self.code = own_code(self._function)
        self.key = blake2b(pickled + stamp_of(self.code).encode(), digest_size=16).hexdigest()
        self._pickled = pickled

    def load(self) -> Function:
        """The function."""
        if not self._is_loaded:
            from ray import cloudpickle

            self._function = cloudpickle.loads(self._pickled or b"")
            self._is_loaded = True
        return self._function

    def load_checked(self) -> Function:
        """The function, for this process; raises what `Decoders.load` does."""
        return self._function if self._is_loaded else Decoders("this process", {}).load(self)

    def __getstate__(self) -> dict[str, Any]:
        self.pack()
        return {**self.__dict__, "_function": None, "_is_loaded": False}


class Decoders:
    """The decode functions that a process has loaded.

    Parameters
    ----------
    where
        The process, for errors.
    code
        Hashes of the source of modules that it has loaded, by name. Python keeps them, whatever becomes of the files.
    """

    def __init__(self, where: str, code: Mapping[str, str]) -> None:
        self._where = where
        self._code = dict(code)
        self._functions: OrderedDict[str, Function] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, decode: Decode) -> Function:
        """The function.

        Raises
        ------
        VersionMismatch
            A module has another source here than where the function comes from, or had when it was loaded.
        DecodeNotLoaded
            It cannot be unpickled.
        """
        with self._lock:
            if decode.key in self._functions:
                self._functions.move_to_end(decode.key)
                return self._functions[decode.key]
            than = "the decode function was sent with"
            for module, expected in decode.code.items():
                if (loaded := self._code.get(module, expected)) != expected:
                    raise VersionMismatch(self._where, loaded, expected, module, than)
            if (changed := changed_code(decode.code)) is not None:
                raise VersionMismatch(self._where, changed.here, changed.expected, changed.module, than)
            try:
                function = decode.load()
            except Exception as error:  # whatever importing a user's module raises
                raise DecodeNotLoaded(self._where, described(error)) from error
            self._code |= decode.code
            self._functions[decode.key] = function
            if len(self._functions) > _MOST_FUNCTIONS:
                self._functions.popitem(last=False)
            return function


def decoded(function: Function, form: Form, answer: RowAnswer, digest: str) -> RowAnswer:
    """The answer with its blob decoded. A row whose blob cannot be decoded has failed, whatever was raised."""
    data = answer.data
    if data is None:
        return answer
    try:
        encoded = form.encode(bytes(data) if function is None else function(bytes(data)))
    except Exception as error:  # a user's function may raise anything, and fails this row only
        return _failed(digest, error)
    return RowAnswer(encoded, answer.source)


def _failed(digest: str, error: Exception) -> RowAnswer:
    failure = DecodeFailed(digest, described(error))
    failure.__cause__ = error
    return RowAnswer.without_blob("failed", digest, failure)
