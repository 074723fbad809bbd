"""Programs in files: ``.pt2`` of torch.export, with gradients, and ``.onnx``, which is asked and never differentiated.

torch itself reads ``.pt2`` files by what may run code of theirs: pickles, expressions that are evaluated, operators by
any name. Here a file is looked through first, and only one that is tensors and plain operators is read.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.base.wording import first_line
from certimetric.deep.models.functions import Called

_PLAIN = re.compile(
    r"torch\.ops\.(aten|higher_order)\.\w+(\.\w+)?|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_FILES = re.compile(r"torch\.ops\.aten\.(from_file|save)\b")  # the operators that touch files
_SYMBOL = re.compile(r"Symbol\('([su]\d+)'(?:, \w+=(?:True|False))*\)")
_WORDS = re.compile(
    r"[su]\d+|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|FloorDiv|CleanDiv|CeilToInt|FloorToInt|IntTrueDiv"
)
_EXPRESSION = re.compile(r"(?:[A-Za-z]\w*|\d+(?:\.\d+)?|[-+*/%(),<>= ])*")


class Exported(nn.Module):
    """A program of torch.export; it is in the mode that it was exported in, for good."""

    def __init__(self, program: nn.Module, batch: int | None, shape: tuple[int | None, ...]):
        super().__init__()
        self.program, self.batch, self.shape, self.training = program, batch, shape, False

    def train(self, mode: bool = True) -> Exported:
        """Nothing: a program has one mode."""
        return self

    def forward(self, images: Tensor) -> Any:
        return in_batches(self.program, images, self.batch, self.shape)

    def extra_repr(self) -> str:
        return f"batch={self.batch}, shape={self.shape}"


def in_batches(
    function: Callable[[Tensor], Any], images: Tensor, batch: int | None, shape: tuple[int | None, ...]
) -> Any:
    """A function that may be made for batches of one size: the last one is filled up with its last input."""
    if len(shape) != images.ndim - 1 or any(b not in (None, a) for a, b in zip(images.shape[1:], shape)):
        sizes = shape, images.shape[1:]
        wanted, got = (" × ".join("any" if n is None else str(n) for n in each) for each in sizes)
        raise ValueError(f"the program takes inputs of {wanted}, got {got}")
    if batch is None or len(images) == batch:
        return function(images)
    parts = []
    for part in images.split(batch):
        filled = torch.cat([part, part[-1:].expand(batch - len(part), *part.shape[1:])])
        parts.append(_head(function(filled), len(part)))
    return _joined(parts)


def _head(found: Any, n: int) -> Any:
    if isinstance(found, dict):
        return {name: _head(value, n) for name, value in found.items()}
    return type(found)(_head(value, n) for value in found) if isinstance(found, (tuple, list)) else found[:n]


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], (tuple, list)):
        return type(parts[0])(_joined(list(each)) for each in zip(*parts))
    return torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)


def load_program(path: Path) -> nn.Module:
    """A ``.pt2`` file, of torch 2.8 or later.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, not of one input, or holds anything but tensors and plain operators.
    """
    try:
        _check_archive(path)
        program = torch.export.load(path)
        (name,) = program.graph_signature.user_inputs
        value = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
        module: nn.Module = program.module(check_guards=False)  # which would run what the file says
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from None
    except Exception as error:
        raise ValueError(f"{str(path)!r} is no program that can be read: {first_line(error)}") from None
    batch, *shape = (size if isinstance(size, int) else None for size in value.shape)
    return Exported(module, batch, tuple(shape))


def _check_archive(path: Path) -> None:
    """Raise a ValueError unless an archive is one program of tensors and plain operators."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = [name.partition("/")[2] for name in names]
        programs = [name for name, part in zip(names, inside) if part.startswith("models/")]
        if len(set(names)) < len(names) or len(programs) != 1 or any("aotinductor" in part for part in inside):
            raise ValueError("it must hold one program as torch.export.save writes it since torch 2.8")
        if (damaged := archive.testzip()) is not None:  # torch reads weights without a look at their checksums
            raise ValueError(f"its {damaged.partition('/')[2]!r} does not match its checksum")
        for name, part in zip(names, inside):
            if part.startswith("data/") and part.endswith("_config.json"):
                entries = json.loads(archive.read(name))["config"]
                odd = [key for key, e in entries.items() if e.get("use_pickle") is not False or not e["tensor_meta"]]
                if odd:
                    raise ValueError(f"its {odd[0]!r} is pickled, which would run code of the file")
            if part.startswith("data/sample_inputs/"):
                _check_tensors(archive.read(name))
        for key, value in _entries(json.loads(archive.read(programs[0]))):
            if key == "target" and not (_PLAIN.fullmatch(value) and not _FILES.match(value)):
                raise ValueError(f"it calls {value!r}, which is no plain operator of torch")
            if key == "expr_str" and not _is_plain(value):
                raise ValueError(f"its shapes depend on {value!r}, which is no plain expression")


def _check_tensors(pickled: bytes) -> None:
    try:
        torch.load(io.BytesIO(pickled), weights_only=True)
    except Exception:
        raise ValueError("its sample inputs are no tensors, and reading them would run code of the file") from None


def _entries(told: Any) -> Iterator[tuple[str, str]]:
    """All keys of a document with values that are text."""
    if isinstance(told, dict):
        for key, value in told.items():
            if isinstance(value, str):
                yield key, value
            yield from _entries(value)
    elif isinstance(told, list):
        for value in told:
            yield from _entries(value)


def _is_plain(expression: str) -> bool:
    """Whether it is arithmetic on sizes.

    Examples
    --------
    >>> _is_plain("Mul(Integer(2), Symbol('s31', positive=True, integer=True))"), _is_plain("exec(s31)")
    (True, False)
    """
    expression = _SYMBOL.sub(r"\1", expression)
    words = re.findall(r"[A-Za-z]\w*", expression)
    return bool(_EXPRESSION.fullmatch(expression)) and all(map(_WORDS.fullmatch, words))


def load_onnx(path: Path) -> nn.Module:
    """An ``.onnx`` file, run by onnxruntime on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If onnxruntime is not installed.
    ValueError
        If it is damaged, or not of one floating input.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        import onnxruntime
    except ImportError:
        raise ImportError("models in .onnx files need onnxruntime: pip install onnxruntime") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"{str(path)!r} is no ONNX model that can be read: {first_line(error)}") from None
    inputs, outputs = session.get_inputs(), [each.name for each in session.get_outputs()]
    if len(inputs) != 1 or inputs[0].type not in ("tensor(float)", "tensor(float16)", "tensor(double)"):
        told = ", ".join(f"{each.name!r} of {each.type}" for each in inputs)
        raise ValueError(f"{str(path)!r} must have one input of floating numbers, got {told}")
    kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}[inputs[0].type]
    batch, *shape = (size if isinstance(size, int) else None for size in inputs[0].shape)

    def run(images: Tensor) -> Any:
        found = session.run(outputs, {inputs[0].name: images.numpy().astype(kind)})
        return found[0] if len(found) == 1 else dict(zip(outputs, found))

    def call(images: Tensor) -> Any:
        return in_batches(run, images.detach().cpu(), batch, tuple(shape))

    return Called(call)
