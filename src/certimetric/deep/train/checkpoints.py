"""Checkpoints of training: data, not code, and complete or not there at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from certimetric.base.files import write_atomically

SCHEMA = "certimetric.training/1"
POINTER = "checkpoint.json"


def save_checkpoint(
    folder: str | os.PathLike[str], epoch: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Write a checkpoint; the one before it stays until this one is complete.

    Parameters
    ----------
    folder : path
    epoch : int
        Epochs that are done.
    tensors : mapping of str to tensor
        Of the model and of the loss: kept as safetensors.
    state : mapping
        Of the optimiser and the like: tensors, numbers, text, and lists and dicts of them.

    Returns
    -------
    pointer : Path
        The file that names the parts of the checkpoint, written last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = {"tensors": f"epoch-{epoch:04d}.safetensors", "state": f"epoch-{epoch:04d}.state"}
    kept = io.BytesIO()
    torch.save(dict(state), kept)
    content = {"tensors": _serialized(tensors), "state": kept.getvalue()}
    for part, name in names.items():
        write_atomically(folder / name, content[part])
    told = {"schema": SCHEMA, "epoch": epoch, **names, "sha256": {part: digest_of(content[part]) for part in names}}
    pointer = write_atomically(folder / POINTER, json.dumps(told))
    for old in folder.glob("epoch-*"):
        if old.name not in names.values():
            old.unlink()
    return pointer


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors; the hash of the file."""
    content = _serialized(tensors)
    write_atomically(path, content)
    return digest_of(content)


def _serialized(tensors: Mapping[str, Tensor]) -> bytes:
    """Copies, since the format has no place for tensors that share their memory."""
    return bytes(save({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}))


def digest_of(content: bytes) -> str:
    """Hash of the content of a file."""
    return hashlib.sha256(content).hexdigest()


def load_checkpoint(folder: str | os.PathLike[str]) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """Epoch, tensors and state of the last complete checkpoint of a folder; None if there is none.

    Nothing in the files is run.

    Raises
    ------
    ValueError
        If the files are damaged.
    """
    folder = Path(folder)
    if not (folder / POINTER).exists():
        return None
    try:
        pointer = json.loads((folder / POINTER).read_text(encoding="utf-8"))
        if pointer["schema"] != SCHEMA:
            raise ValueError(f"schema {pointer['schema']!r}")
        if any(Path(pointer[part]).name != pointer[part] for part in ("tensors", "state")):
            raise ValueError("it names files outside of its folder")
        content = {part: (folder / pointer[part]).read_bytes() for part in ("tensors", "state")}
        for part, digest in pointer.get("sha256", {}).items():  # which checkpoints of versions before 1.0 have not
            if digest_of(content[part]) != digest:
                raise ValueError(f"{pointer[part]} does not match its checksum")
        tensors = load(content["tensors"])
        state = torch.load(io.BytesIO(content["state"]), weights_only=True, map_location="cpu")
        return int(pointer["epoch"]), tensors, state
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the checkpoint in {str(folder)!r} cannot be read: {reason}") from None
