"""A sentence about an argument in Python becomes one about the option that was typed: once for all commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_WORDS = {"X": "the features", "y": "the labels"}
# What a sentence about its first word goes on with; a noun that happens to be an argument's name does not.
_VERBS = r"(?= (?:'[^']*' )?(?:must|names|needs|takes|tells|makes|does|is|and)\b)"


def options_named(message: str, command: Any, given: Sequence[str] = ()) -> str:
    """The message, with the options of a command in the place of the arguments that it begins with.

    Elsewhere only names that are no words (``queries_from``), of options that were ``given``: a file may hold an array
    of that name. What is in quotes, or of something ("eps of PGD"), stays.

    Examples
    --------
    >>> from typer.main import get_command
    >>> from certimetric.cli.app import app
    >>> fit, embeddings = map(get_command(app).commands.get, ("fit", "audit-embeddings"))
    >>> options_named("n_neighbors must be at least 1, got 0", fit)
    '--neighbors must be at least 1, got 0'
    >>> options_named("drop names the column 'age', which is not there", fit)
    "--read drop names the column 'age', which is not there"
    >>> options_named("n_neighbors of LMNN must be at least 1, got 0", fit)
    'n_neighbors of LMNN must be at least 1, got 0'
    >>> options_named("a.npz: queries_from needs times", embeddings, ["--queries-from", "2026-01-20"])
    'a.npz: --queries-from needs times'
    """
    names = {**_WORDS, **_flags(command)}
    first = re.match(rf"(\w+){_VERBS}", message)
    if first is not None and first[1] in names:
        message = names[first[1]] + message[first.end() :]
    for name, flag in names.items():
        if "_" in name and any(word.partition("=")[0] == flag for word in given):
            message = re.sub(rf"(?<![\w'\"=:.,-]){name}(?![\w'\"=:(-]| of )", flag, message)
    return message


def _flags(command: Any) -> dict[str, str]:
    """Options of a command by the names that their arguments have in Python."""
    from certimetric.auditing.request import parameters
    from certimetric.cli.app import AUDITS
    from certimetric.cli.tables import TableOptions

    flags = {each.name: max(each.opts, key=len) for each in command.params if each.param_type_name == "option"}
    if "read" in flags:
        flags |= {key: f"--read {key}" for key in TableOptions.keys} | {"categorical": "--read category"}
    for audit in AUDITS:  # what an option is called in one request it is called by the functions of other commands
        for told in parameters(audit.request):
            if told.flags and told.flags[0] in flags.values():
                flags.setdefault(told.name, told.flags[0])
    return flags
