"""What decode functions return: how a result travels as bytes, and the Arrow column that results become."""

from __future__ import annotations

import math
import operator
import pickle
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow

__all__ = ["DecodedType", "Form", "TensorForm", "form_of"]

# An Arrow type; or the dtype and the shape of arrays that are all alike; or None, for bytes.
DecodedType: TypeAlias = "pyarrow.DataType | tuple[Any, Sequence[int]] | None"


class Form(ABC):
    """The results of one decode function."""

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """A result as bytes, from which `array` makes it again.

        Raises
        ------
        Exception
            The result is not of this form; the text says what it is, and what it would have to be.
        """

    @abstractmethod
    def arrow_type(self) -> pyarrow.DataType:
        """The type of the column."""

    @abstractmethod
    def array(self, found: list[bool], ends: array[int], data: bytes | memoryview) -> pyarrow.Array:
        """A chunk of the column.

        Parameters
        ----------
        found
            Whether each row has a result.
        ends
            0, and where the bytes of each row end.
        data
            The encoded results, one after the other.
        """


class BytesForm(Form):
    """Bytes."""

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"decode returned {_shown(value)}, not bytes: say what it returns by decoded_type=...")
        return bytes(value)

    def arrow_type(self) -> pyarrow.DataType:
        import pyarrow

        return pyarrow.large_binary()

    def array(self, found: list[bool], ends: array[int], data: bytes | memoryview) -> pyarrow.Array:
        import pyarrow

        buffers = [_validity(found), pyarrow.py_buffer(ends), pyarrow.py_buffer(data)]
        return pyarrow.Array.from_buffers(pyarrow.large_binary(), len(found), buffers)


class TensorForm(Form):
    """Arrays of one dtype and shape: a column of Ray's tensors, which batches of NumPy and PyTorch take without a copy.

    Parameters
    ----------
    dtype
        What `numpy.dtype` takes.
    shape
        Of each array.
    """

    def __init__(self, dtype: Any, shape: Sequence[int]) -> None:
        import numpy
        import pyarrow

        try:
            self.dtype = numpy.dtype(dtype)
            self.shape = tuple(operator.index(size) for size in shape)
        except TypeError as error:
            raise TypeError(f"decoded_type={(dtype, shape)!r}: give a dtype and a shape ({error})") from error
        if not self.shape or min(self.shape) < 1:
            wrong = f"decoded_type={(dtype, shape)!r}: each array needs a dimension, and each dimension at least 1"
            raise ValueError(f"{wrong}; for numbers give an Arrow type, such as pyarrow.float32()")
        if self.dtype.kind not in "biuf" or not self.dtype.isnative:
            raise ValueError(f"decoded_type={(dtype, shape)!r}: arrays hold numbers or bools in native byte order")
        self._items = math.prod(self.shape)
        self._size = self._items * self.dtype.itemsize
        self._values: Any = pyarrow.from_numpy_dtype(self.dtype)

    def encode(self, value: Any) -> bytes:
        import numpy

        if isinstance(value, bytes):  # the memory of an array, as it is stored
            if len(value) != self._size:
                raise ValueError(f"it has {len(value)} bytes, and {self} has {self._size}")
            return value
        given: Any = numpy.asarray(value)
        if given.dtype != self.dtype or given.shape != self.shape:
            raise TypeError(f"decode returned {_shown(value)}, and decoded_type is {self}")
        encoded: bytes = given.tobytes()
        return encoded

    def arrow_type(self) -> pyarrow.DataType:
        from ray.data.extensions import ArrowTensorTypeV2

        return ArrowTensorTypeV2(self.shape, self._values)

    def array(self, found: list[bool], ends: array[int], data: bytes | memoryview) -> pyarrow.Array:
        import numpy
        import pyarrow

        rows = len(found)
        flat: Any = numpy.frombuffer(data, self.dtype)
        if not all(found):
            # Ray reads the memory as if it held a tensor for each row, whatever is null.
            nothing = numpy.nan if self.dtype.kind == "f" else 0
            whole: Any = numpy.full((rows, self._items), nothing, self.dtype)
            whole[numpy.array(found, bool)] = flat.reshape(-1, self._items)
            flat = whole.reshape(-1)
        if self.dtype.kind == "b":
            flat = numpy.packbits(flat, bitorder="little")
        values = pyarrow.Array.from_buffers(self._values, rows * self._items, [None, pyarrow.py_buffer(flat)])
        starts = pyarrow.py_buffer(numpy.arange(rows + 1, dtype="i8") * self._items)
        kind = pyarrow.large_list(self._values)
        lists = pyarrow.Array.from_buffers(kind, rows, [_validity(found), starts], children=[values])
        return pyarrow.ExtensionArray.from_storage(self.arrow_type(), lists)

    def __str__(self) -> str:
        return f"({self.dtype}, {self.shape})"


class ValueForm(Form):
    """Values of an Arrow type: numbers, text, lists, structs.

    Parameters
    ----------
    kind
        The type.
    """

    def __init__(self, kind: pyarrow.DataType) -> None:
        import pyarrow

        self._kind = kind
        if isinstance(kind, pyarrow.BaseExtensionType) or pyarrow.types.is_dictionary(kind):
            raise ValueError(f"decoded_type={kind}: give a plain Arrow type, or (dtype, shape) for arrays")

    def encode(self, value: Any) -> bytes:
        import pyarrow

        if value is None:
            raise TypeError("decode returned None")
        plain = value.as_py() if isinstance(value, pyarrow.Scalar) else value
        return pickle.dumps(pyarrow.scalar(plain, type=self._kind).as_py(), protocol=5)

    def arrow_type(self) -> pyarrow.DataType:
        return self._kind

    def array(self, found: list[bool], ends: array[int], data: bytes | memoryview) -> pyarrow.Array:
        import pyarrow

        parts = zip(found, ends, ends[1:], strict=False)
        values = [pickle.loads(data[start:end]) if here else None for here, start, end in parts]
        return pyarrow.array(values, self._kind)


def form_of(kind: DecodedType) -> Form:
    """The form of results.

    Parameters
    ----------
    kind
        As for `FetchBlobs`.

    Raises
    ------
    TypeError, ValueError
        No column can hold such results.
    """
    import pyarrow

    if kind is None:
        return BytesForm()
    if isinstance(kind, pyarrow.DataType):
        return BytesForm() if kind == pyarrow.large_binary() else ValueForm(kind)
    if isinstance(kind, tuple) and len(kind) == 2 and isinstance(kind[1], (tuple, list)):
        return TensorForm(*kind)
    raise TypeError(f"decoded_type={kind!r}: give an Arrow type, such as pyarrow.int64(), or (dtype, shape) for arrays")


def _validity(found: list[bool]) -> Any:
    import pyarrow

    # The bits of a boolean array are a validity bitmap.
    return None if all(found) else pyarrow.array(found).buffers()[1]


def _shown(value: Any) -> str:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    name = type(value).__name__
    return name if dtype is None or shape is None else f"{name} ({dtype}, {tuple(shape)})"
