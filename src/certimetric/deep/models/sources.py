"""Models by what they are called: of timm, Hugging Face, torchvision, programs in files, factories of the user's."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.base.interrupts import is_interrupt
from certimetric.base.wording import did_you_mean, first_line
from certimetric.deep.models.exported import load_onnx, load_program
from certimetric.deep.models.functions import Output, chosen_output, told_outputs, with_output
from certimetric.deep.models.preprocessing import Preprocessing, of_hugging_face, of_timm

_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state")  # under which training scripts keep weights
_PREFIXES = ("module.", "_orig_mod.")  # of models in several processes, and compiled ones
_EMBEDDINGS = ("image_embeds", "pooler_output")  # of models of Hugging Face, the first that is given
CONFIGURATIONS = ("preprocessor_config.json", "processor_config.json")


def load_model(told: str) -> nn.Module:
    """A model by its source, with the preprocessing of its own configuration inside. Nothing is downloaded.

    Parameters
    ----------
    told : str
        ``SOURCE[?option=value&…]`` with one of the sources

        - ``timm:NAME``: a body of timm. Its option ``checkpoint`` is a file with its weights, safetensors or what
          ``torch.save`` wrote of tensors; without it they are random.
        - ``hf:FOLDER``: what ``save_pretrained`` of transformers wrote, with the ``preprocessor_config.json``.
        - ``torchvision:NAME``: a classifier of torchvision without its last layer; ``checkpoint`` as above.
        - ``FILE.pt2``: a program of torch.export, in evaluation mode.
        - ``FILE.onnx``: by onnxruntime. It has no gradients: attacks without them and smoothing only.
        - ``package.module:factory``: of your own, called without arguments.

        All but the last take the options ``output``, the embedding among several outputs, by name or place; the two
        kinds of files ``mean`` and ``std`` of the pixels, such as ``mean=0.485,0.456,0.406``.

    Returns
    -------
    model : Module
        In evaluation mode, from pictures from 0 to 1 to embeddings. It resizes, cuts out and normalises pictures as
        its configuration says, so that a perturbation is one of the pictures as they are given.

    Raises
    ------
    ValueError
        If there is no such source or model, an option does not fit, or a file is damaged or of another model.
    FileNotFoundError
        If a file is missing.
    ImportError
        If a package is missing.

    Examples
    --------
    >>> import torch
    >>> load_model("torch.nn:Flatten")(torch.rand(2, 1, 4, 4)).shape
    torch.Size([2, 16])
    """
    name, options = parsed(told)
    prefix, _, rest = name.partition(":")
    if prefix in SOURCES and rest:
        kind: Callable[..., nn.Module] = SOURCES[prefix]
    elif Path(name).suffix in PROGRAMS:
        kind, rest = _program, name
    elif ":" in name:
        if options:
            raise ValueError(f"a factory takes no options, got {told!r}")
        return _of_factory(name)
    else:
        known = ", ".join([*(f"{source}:…" for source in SOURCES), *(f"FILE{each}" for each in PROGRAMS)])
        raise ValueError(f"model must be {known} or package.module:factory, got {told!r}")
    allowed = [*inspect.signature(kind).parameters][1:]
    for key in options:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise ValueError(f"options of {name!r} are {', '.join(allowed)}, got {key!r}{hint}")
    return kind(rest, **options).eval()


def is_source(told: str, factories: bool = True) -> bool:
    """Whether text is a source, with its options or without; factories count unless they are asked not to."""
    name = told.partition("?")[0]
    prefix, _, rest = name.partition(":")
    known = prefix in SOURCES or factories
    return (known and bool(prefix and rest)) or Path(name).suffix in PROGRAMS


def parsed(told: str) -> tuple[str, dict[str, str]]:
    """Name and options.

    Examples
    --------
    >>> parsed("timm:resnet18?checkpoint=a.pt&output=0")
    ('timm:resnet18', {'checkpoint': 'a.pt', 'output': '0'})
    """
    name, _, rest = told.partition("?")
    options = {}
    for part in filter(None, rest.split("&")):
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise ValueError(f"options of a model are told as key=value, got {part!r} in {told!r}")
        options[key] = value
    return name, options


def with_source_output(model: nn.Module, output: str | None) -> nn.Module:
    """One output by its name or place, as options tell it."""
    if output is None:
        return model
    return with_output(model, int(output) if output.lstrip("-").isdigit() else output)


def timm_model(name: str, checkpoint: str | None = None, output: str | None = None) -> nn.Module:
    """A body of timm after its own evaluation transform."""
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"models of timm need timm and torchvision: {first_line(error)}") from None
    try:
        body = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise ValueError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}") from error
    if checkpoint is not None:
        classifier = body.pretrained_cfg.get("classifier") or ()
        load_weights(body, checkpoint, (classifier,) if isinstance(classifier, str) else tuple(classifier))
    preprocessing = of_timm(timm.data.resolve_model_data_config(body))
    return nn.Sequential(preprocessing, with_source_output(body, output))


def torchvision_model(name: str, checkpoint: str | None = None, output: str | None = None) -> nn.Module:
    """A classifier of torchvision without its last layer, after the transform of its published weights."""
    try:
        from torchvision.models import get_model, get_model_weights, list_models
    except (ImportError, RuntimeError) as error:  # a build for another torch
        raise ImportError(f"models of torchvision need torchvision: {first_line(error)}") from None
    try:
        body, asked = get_model(name, weights=None), get_model_weights(name)
    except ValueError as error:
        raise ValueError(f"torchvision has no model {name!r}{did_you_mean(name, list_models())}") from error
    *_, last = (key for key, each in body.named_modules() if isinstance(each, nn.Linear))
    body.set_submodule(last, nn.Identity())
    if checkpoint is not None:
        load_weights(body, checkpoint, (last,))
    transform = next(iter(asked)).transforms()
    told = {"resize": transform.resize_size[0], "crop": (transform.crop_size[0],) * 2}
    told |= {"interpolation": transform.interpolation.value, "mean": transform.mean, "std": transform.std}
    return nn.Sequential(Preprocessing(**told), with_source_output(body, output))


def load_weights(body: nn.Module, path: str, without: tuple[str, ...] = ()) -> None:
    """Weights of a file, all but those of the parts ``without``, such as what a classifier has for its classes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, holds anything but tensors, or those of another model.
    """
    left_out = tuple(f"{layer}." for layer in without)
    tensors, wanted = (
        {name: value for name, value in held.items() if not f"{name}.".startswith(left_out)}
        for held in (read_tensors(path), body.state_dict())
    )
    for name, value in wanted.items():
        shape = tuple(tensors[name].shape) if name in tensors else None
        if shape != tuple(value.shape) and not name.endswith("num_batches_tracked"):  # some files leave it out
            odd = "is missing" if shape is None else f"is of shape {shape}, not {tuple(value.shape)}"
            raise ValueError(f"the weights in {path!r} are of another model: {name} {odd}")
    if more := [name for name in tensors if name not in wanted]:
        raise ValueError(f"the weights in {path!r} are of another model: it has no {more[0]}")
    body.load_state_dict(tensors, strict=False)


def read_tensors(path: str) -> dict[str, Tensor]:
    """Tensors by name, of a safetensors file or one that torch.save wrote; nothing in it is run."""
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file of weights {path!r}")
    try:
        if path.endswith(".safetensors"):
            found: Any = load_file(path)
        else:
            found = torch.load(path, weights_only=True, map_location="cpu")
            found = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), found)
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    except Exception as error:  # of damaged files, by many kinds of errors
        raise ValueError(f"{path!r} is no file of weights that can be read: {first_line(error)}") from None
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def hugging_face_model(folder: str, output: str | None = None) -> nn.Module:
    """A model that ``save_pretrained`` wrote, after the image processor that lies beside it."""
    if not Path(folder, "config.json").is_file():
        raise FileNotFoundError(f"{folder!r} is no folder of a model of Hugging Face: it has no config.json")
    config = processor_config(Path(folder))
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"models of Hugging Face need transformers: {first_line(error)}") from None
    with _quietly(transformers):
        try:
            model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"the model in {folder!r} cannot be loaded: {first_line(error)}") from error
    return nn.Sequential(of_hugging_face(config), HuggingFaceEmbedding(model, output))


def processor_config(folder: Path) -> Mapping[str, Any]:
    """What the image processor of a folder is told."""
    import json

    for name in CONFIGURATIONS:
        if (folder / name).is_file():
            try:
                told = json.loads((folder / name).read_text(encoding="utf-8"))
                found = told.get("image_processor", told)
            except (ValueError, AttributeError, RecursionError) as error:
                raise ValueError(f"{str(folder / name)!r} is damaged: {first_line(error)}") from None
            if isinstance(found, Mapping):
                return found
    raise FileNotFoundError(f"{str(folder)!r} has no {CONFIGURATIONS[0]}, which says how pictures are prepared")


class HuggingFaceEmbedding(nn.Module):
    """The embedding that a model of pictures, or of pictures and text, gives of pictures."""

    def __init__(self, model: nn.Module, output: str | None = None):
        super().__init__()
        self.model, self.output = model, output
        self.images_only: Callable[..., Any] = getattr(model, "get_image_features", model)

    def forward(self, pixel_values: Tensor) -> Any:
        found = self.images_only(pixel_values=pixel_values)
        if isinstance(found, Tensor):
            return found
        names = _EMBEDDINGS if self.output is None else (self.output,)
        output: Output | None = next((name for name in names if getattr(found, name, None) is not None), None)
        if output is None:
            raise ValueError(f"the model gives no {' or '.join(names)}: it gives {told_outputs(found)}; say output=…")
        return chosen_output(found, output)


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Without the progress bar of loading."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _program(path: str, output: str | None = None, mean: str = "0", std: str = "1") -> nn.Module:
    """A program in a file, after the normalisation that is told."""
    model = with_source_output(PROGRAMS[Path(path).suffix](Path(path)), output)
    told = Preprocessing(mean=_numbers("mean", mean), std=_numbers("std", std))
    return nn.Sequential(told, model) if mean != "0" or std != "1" else model


def _numbers(option: str, text: str) -> float | list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option} must be a number, or one for each channel with commas between, got {text!r}"
        ) from None
    return found[0] if len(found) == 1 else found


def find_factory(name: str) -> Callable[..., Any]:
    """The function or class that ``package.module:factory`` names."""
    module, _, factory = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), factory)
    except Exception as error:  # a module of the user's may raise anything
        if is_interrupt(error):
            raise
        raise ValueError(f"there is no model factory {name!r}: {str(error) or type(error).__name__}") from error
    if not callable(made):
        raise ValueError(f"there is no model factory {name!r}: it is {type(made).__name__}, which cannot be called")
    return made


def _of_factory(told: str) -> Any:
    """The model of a factory of the user's, called without arguments."""
    factory = find_factory(told)
    try:
        model = factory()
    except Exception as error:  # a factory of the user's may raise anything
        if is_interrupt(error):
            raise
        reason = str(error) or "no reason given"
        raise ValueError(f"the model factory {told!r} failed with {type(error).__name__}: {reason}") from error
    if not callable(model):
        given = type(model).__name__
        raise ValueError(f"the model factory {told!r} must give a Module or a callable that embeds images, got {given}")
    return model


SOURCES: dict[str, Callable[..., nn.Module]] = {
    "timm": timm_model,
    "hf": hugging_face_model,
    "torchvision": torchvision_model,
}
"""Sources of models by their prefix: a new one is a function and a line here."""
UNTRAINED = ("timm:", "torchvision:")  # whose weights are random without a checkpoint
PROGRAMS: dict[str, Callable[[Path], nn.Module]] = {".pt2": load_program, ".onnx": load_onnx}
