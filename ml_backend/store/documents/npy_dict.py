"""An array of a dictionary that NumPy saved as `.npy`, without running anything that stands in it.

Such a file is a program for a stack machine that can call whatever it names. Here its instructions
are read as data: containers are built, and what would be called is only written down as a `_Call`.
Names other than those that stand for arrays, numbers and paths are refused, and so are all
instructions that NumPy does not write.
"""

import pickletools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': False, 'shape': \(\), \} *\n",
    re.DOTALL,
)
_NAMES = {
    *((f"numpy.{room}.multiarray", name) for room in ("core", "_core")
      for name in ("_reconstruct", "scalar")),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in
      ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    ("collections", "OrderedDict"), ("collections", "defaultdict"),
}  # fmt: skip
_NUMBERS = {
    code: code
    for code in ("b1", "f4", "f8", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)))
}
_ORDERS = {order: order for order in "<>|="}
_VALUES = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False,
    "EMPTY_TUPLE": (), "EMPTY_LIST": list, "EMPTY_DICT": dict,
}  # fmt: skip
_ARGUMENTS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_STEPS = {
    "MARK", "TUPLE", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "MEMOIZE", "BINPUT", "BINGET",
    "LONG_BINPUT", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    module: str
    name: str


@dataclass(eq=False)
class _Call:
    """What would be called, with what, and the state that the result would be given."""

    name: _Name
    arguments: Any
    state: Any = None


def read_array(data: bytes, key: str) -> NDArray[Any]:
    """The array under `key` of a dictionary saved by `numpy.save`.

    Raises `DataError` where the file is none, or holds anything else than such files do.
    """
    if not _HEADER.match(data):
        raise DataError("it holds no dictionary as numpy.save writes it")
    try:
        saved = _Machine().run(data[10 + int.from_bytes(data[8:10], "little") :])
        [content] = _state(saved, 5)[4]
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"it is damaged, or none of NumPy's ({error})") from error
    if not isinstance(content, dict) or key not in content:
        raise DataError(f"it has no {key!r}")
    return _array(content[key], key)


def _state(saved: Any, size: int) -> tuple[Any, ...]:
    if not isinstance(saved, _Call) or not isinstance(saved.state, tuple):
        raise TypeError("no array where one belongs")
    if len(saved.state) < size:
        raise TypeError("an array without its numbers")
    return saved.state


def _array(saved: Any, key: str) -> NDArray[Any]:
    """What a call to rebuild an array stands for."""
    try:
        _, shape, dtype, is_fortran, numbers = _state(saved, 5)[:5]
        code, order = dtype.arguments[0], _state(dtype, 2)[1]
        kind = _ORDERS[order], _NUMBERS[code]
        flat = np.frombuffer(numbers, "".join(kind))
        found = flat.reshape([max(0, size) for size in shape], order="F" if is_fortran else "C")
        return found.astype(found.dtype.newbyteorder("="))
    except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        raise DataError(f"its {key!r} is no array of numbers ({error})") from error


@dataclass
class _Machine:
    """The stack, and what was put aside to be used again."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, program: bytes) -> Any:
        """Go through the instructions; what is left at the end."""
        for code, argument, _ in pickletools.genops(program):
            if code.name == "STOP":
                return self.stack.pop()
            self._step(code.name, argument)
        raise ValueError("it ends early")

    def _step(self, code: str, argument: Any) -> None:
        if code in _ARGUMENTS:
            self.stack.append(argument)
        elif code in _VALUES:
            value = _VALUES[code]
            self.stack.append(value() if isinstance(value, type) else value)
        elif code in _TUPLES:
            count = _TUPLES[code]
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif code in {"PROTO", "FRAME"}:
            pass
        else:
            if code not in _STEPS:
                raise ValueError(f"it has the instruction {code}, which NumPy does not write")
            getattr(self, f"_{code.lower()}")(argument)

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _since_mark(self) -> list[Any]:
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self._container(list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._since_mark()
        self._container(list).extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self, _: Any) -> None:
        self._fill(self._since_mark())

    def _fill(self, pairs: list[Any]) -> None:
        if isinstance(self.stack[-1], _Call):  # a dictionary of another kind, of which none is read
            return
        self._container(dict).update(zip(pairs[::2], pairs[1::2], strict=True))

    def _container(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"no {kind.__name__} where one belongs")
        return self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def _binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    _long_binput, _long_binget = _binput, _binget

    def _global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in _NAMES:
            raise DataError(
                f"it would call {module}.{name}, which is no part of such a file and is not done"
            )
        self.stack.append(_Name(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name):
            raise TypeError("a call of nothing")
        if name == _Name("_codecs", "encode"):  # bytes, as an old protocol writes them
            self.stack.append(arguments[0].encode("latin-1"))
        else:
            self.stack.append(_Call(name, arguments))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Call):
            raise TypeError("a state of nothing")
        self.stack[-1].state = state
