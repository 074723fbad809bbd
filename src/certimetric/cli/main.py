"""Entry point: runs the command, and turns what was wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

USAGE_ERROR = 2
# Threads of OpenMP, and those of OpenBLAS (two to this power of cycles), go to sleep at once where they have to wait.
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``certimetric`` with these arguments (those of the process by default); give the exit code.

    0 is success, 1 a threshold that was missed, 2 bad input (with one line on stderr), 130 an interrupt.
    """
    if arguments is None:  # this is the process of the command, and the libraries are not loaded yet
        wait_passively()
    import typer

    from certimetric.base.allocation import keep_freed_memory
    from certimetric.base.interrupts import is_interrupt
    from certimetric.cli.app import app

    keep_freed_memory()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # one line on stderr is the message, not a library's remark before it
    given = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    command = typer.main.get_command(app)
    try:
        code = command.main(args=given, prog_name="certimetric", standalone_mode=False, obj=given)
    except BrokenPipeError:  # the reader of the output left: `certimetric datasets | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", 130)
    except (ValueError, TypeError, OSError, MemoryError, ImportError) as error:
        return _say(_sentence(error, command, given), faults=getattr(error, "faults", ()))
    except Exception as error:
        # Errors of usage know how to say what was wrong; anything else is a bug and shows its traceback.
        if is_interrupt(error):
            return _say("interrupted", 130)
        if not hasattr(error, "format_message"):
            raise
        return _say(_elsewhere(error, command) or error.format_message())
    return code if isinstance(code, int) else 0


def _sentence(error: Exception, command: Any, given: Sequence[str]) -> str:
    """What was wrong, in the words of the command."""
    from certimetric.cli.naming import options_named

    if isinstance(error, OSError) and error.strerror is not None and error.filename is not None:
        return f"{str(error.filename)!r}: {error.strerror}"  # of the system, which begins with a number
    message = str(error) or type(error).__name__
    if given[0] in command.commands and isinstance(error, (ValueError, TypeError)):
        return options_named(message, command.commands[given[0]], given)
    return message


def _elsewhere(error: Any, command: Any) -> str:
    """Where what was asked for by an option that a command lacks is said instead, "" for no such thing."""
    from certimetric.cli.app import AUDITS
    from certimetric.cli.tables import TableOptions

    if type(error).__name__ != "NoSuchOption":
        return ""
    known, key = {flag for option in error.ctx.command.params for flag in option.opts}, error.option_name.lstrip("-")
    if "--read" in known and key in TableOptions.keys:
        return f"certimetric {error.ctx.info_name} has no option {error.option_name}: it is --read {key}=VALUE"
    if error.ctx.info_name not in [each.name for each in AUDITS]:
        return ""
    flags = {
        each.name: {*each.formerly, *(flag for option in command.commands[each.name].params for flag in option.opts)}
        for each in AUDITS
    }
    found = [f"certimetric {name}" for name in flags if error.option_name in flags[name]]
    told = f"certimetric {error.ctx.info_name} has no option {error.option_name}: see {' or '.join(found)}"
    return told if found else ""


def _say(message: str, code: int = USAGE_ERROR, faults: Sequence[str] = ()) -> int:
    """One line, and one more for each of several faults that are told together."""
    lines = message.splitlines() if len(faults) > 1 else [message]
    first, *others = (" ".join(line.split()) for line in lines)
    print(f"certimetric: error: {first}", *(f"  {line}" for line in others), sep="\n", file=sys.stderr)
    return code


def wait_passively() -> None:
    """Let threads that wait for each other sleep, in this process and in those that it starts.

    By default they spin. Where another process has one of the cores, the thread that it holds up lets all the others
    spin for as long as it waits for its turn, in every layer of every batch: minutes become a quarter of an hour. The
    libraries read the environment when they are loaded, so that this comes before; variables that are set already stay.
    It changes no result.
    """
    for name, value in _PASSIVE.items():
        os.environ.setdefault(name, value)
