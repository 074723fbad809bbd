"""Keys of a section from the signatures of what it configures, and all that is wrong with their values at once."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from certimetric.base.arguments import ArgumentError
from certimetric.base.wording import did_you_mean

NEEDED = inspect.Parameter.empty
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


class Section(dict[str, Any]):
    """What a section says: its keys, as attributes too."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"the section has no key {key!r}") from None


@dataclass(frozen=True)
class Key:
    """A key: the type of its values, and the default; `NEEDED` for none."""

    hint: Any
    default: Any = NEEDED


class Faults(list[str]):
    """What is wrong, in words, and of which keys, so that nothing more is said about these."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[tuple[str, str]] = set()

    def of(self, section: str, key: str, fault: str) -> None:
        """A fault of a key: the rest of the configuration is judged without it."""
        self.append(fault)
        self.keys.add((section, key))

    def know(self, section: str, *keys: str) -> bool:
        """Whether something is known to be wrong about one of these keys; of the section, without any."""
        return any(told == section and (not keys or key in keys) for told, key in self.keys)


class ConfigurationError(ValueError):
    """All that is wrong with a configuration, its ``faults``: one in one line, several in a line each."""

    def __init__(self, source: str, faults: Sequence[str]):
        self.faults = tuple(faults)
        told = f"{source} is wrong: {faults[0]}"
        if len(faults) > 1:
            told = "\n".join([f"{source} is wrong in {len(faults)} places:", *(f"  {fault}" for fault in faults)])
        super().__init__(told)


@dataclass(frozen=True)
class Part:
    """What a section configures, or a part of it: its keys are the parameters that can be said in a file."""

    make: Callable[..., Any]  # a class, say: its parameters of plain types are keys
    fixed: Mapping[str, Any] = field(
        default_factory=dict
    )  # arguments that are no keys, to judge the others beside them
    skip: Sequence[str] = ()  # parameters that are no keys, though they could be
    names: Mapping[str, str] = field(default_factory=dict)  # keys with other names than their parameters
    # What makes the parameters of these types: its keys are keys in their place.
    makers: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    check: Callable[..., Any] | None = None  # called with the values to judge them, if that should not be make

    def parameters(self) -> dict[str, Key | Part]:
        """Those that keys tell: as a key, or as the part that makes its value of keys."""
        found: dict[str, Key | Part] = {}
        for name, parameter in inspect.signature(self.make, eval_str=True).parameters.items():
            hint = parameter.annotation
            if hint in self.makers:
                found[name] = Part(self.makers[hint])
            elif name not in (*self.skip, *self.fixed) and parameter.kind != parameter.VAR_KEYWORD and is_plain(hint):
                found[name] = Key(hint, parameter.default)
        return found

    @property
    def keys(self) -> dict[str, Key]:
        """All of the keys, by name."""
        found: dict[str, Key] = {}
        for name, entry in self.parameters().items():
            found |= entry.keys if isinstance(entry, Part) else {self.names.get(name, name): entry}
        return found

    def __call__(self, values: Mapping[str, Any], **others: Any) -> Any:
        """Make it with what the keys say, and with further arguments."""
        return self.make(**{**self.arguments(values), **others})

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that keys tell; those that are not said are left out."""
        told: dict[str, Any] = {}
        for name, entry in self.parameters().items():
            if isinstance(entry, Part):
                if entry.is_said(values):
                    told[name] = entry(values)
            elif self.names.get(name, name) in values:
                told[name] = values[self.names.get(name, name)]
        return told

    def is_said(self, values: Mapping[str, Any]) -> bool:
        """Whether nothing is missing that has no default."""
        return all(key.default is not NEEDED or name in values for name, key in self.keys.items())

    def judge(self, section: str, values: Mapping[str, Any], faults: Faults) -> None:
        """Make it, again and again without what it refuses: it tells its first fault alone."""
        left = {key: value for key, value in values.items() if not faults.know(section, key)}
        make = self.make if self.check is None else self.check
        while self.is_said(left):
            try:
                make(**{**self.fixed, **self.arguments(left)})
                return
            except ArgumentError as error:
                key, *beside = (self.names.get(name, name) for name in (error.argument, *error.beside))
                if not (beside and faults.know(section, *beside)):  # else it may be right beside another value
                    faults.of(section, key, error.sentence(key, f" in [{section}]"))
                if key not in left:
                    return
                value = left.pop(key)
                if isinstance(value, tuple) and error.value in value:  # one of a list: the others are judged on
                    left[key] = tuple(item for item in value if item != error.value)
            except (TypeError, ValueError, RuntimeError) as error:
                faults.of(section, "", f"[{section}]: {error}")
                return


def read_section(
    section: str, keys: Mapping[str, Key], given: Mapping[str, Any], faults: Faults, of: str = ""
) -> dict[str, Any]:
    """What is given, in the types of the keys, but for what is wrong: a fault for each; ``of`` ends what they say."""
    values = {}
    for key, value in given.items():
        if key not in keys:
            faults.append(f"[{section}] has no key {key!r}{did_you_mean(key, sorted(keys))}{of}")
            continue
        try:
            values[key] = convert(keys[key].hint, value)
        except ValueError as error:
            faults.of(section, key, f"{key} in [{section}] must be {error}, got {value!r}")
    for key in keys:
        if keys[key].default is NEEDED and key not in given:
            faults.of(section, key, f"[{section}] needs the key {key!r}")
    return values


def is_plain(hint: Any) -> bool:
    """Whether a file can say values of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType, tuple, Sequence):
        return any(map(is_plain, arguments))
    return origin is Literal or hint in _WORDS or (origin is Mapping and is_plain(arguments[1]))


def convert(hint: Any, value: Any) -> Any:
    """The value as the hint wants it, of several types the first that takes it; the error says what is wanted."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        wanted = []
        for argument in filter(is_plain, arguments):
            try:
                return convert(argument, value)
            except ValueError as error:
                wanted.append(str(error))
        raise ValueError(" or ".join(wanted))
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (tuple, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError("a list")
        return tuple(convert(arguments[0], item) for item in value)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError("a table")
        return {str(key): convert(arguments[1], item) for key, item in value.items()}
    kinds = (int, float) if hint is float else hint
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(_WORDS[hint])
    if hint is float and not math.isfinite(value):
        raise ValueError("a finite number")
    return hint(value)
