"""Each parameter of an audit is written once: parameters, docstring, fields and options agree, for every kind."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import typer

from certimetric import auditing
from certimetric.auditing.request import parameters
from certimetric.cli.app import AUDITS, app
from certimetric.cli.options import values_of

PUBLIC = [getattr(auditing, name) for name in auditing.__all__]
FUNCTIONS = {function.request: function for function in PUBLIC if hasattr(function, "request")}
COMMANDS = typer.main.get_command(app).commands
audits = pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit.name)
# What commands know from the data that they read, and what they say of themselves.
WITHOUT_OPTION = {"command", "progress", "name"} | {
    "X",
    "y",
    "feature_names",
    "image_shape",
    "source",
    "imputed",
    "encoder",
    "groups",
    "times",
    "test",
    "ids",
}
WITHOUT_OPTION |= {"models", "surrogate", "images", "queries", "gallery", "class_names"}


def options(audit):
    """Options of the command by name, but for those of what is read, of findings, and ``--help``."""
    found = {option.name: option for option in COMMANDS[audit.name].params}
    return {
        name: found[name] for name in found if name not in {*inspect.signature(audit.read).parameters, "junit", "sarif"}
    }


def flat(text):
    return " ".join(text.split())


def test_every_audit_in_python_has_a_command():
    assert FUNCTIONS.keys() == {audit.request for audit in AUDITS}
    assert [kind.asked for kind in auditing.KINDS] == [audit.request for audit in AUDITS]


@audits
def test_parameters_are_fields_are_options(audit):
    fields = {field.name: field for field in dataclasses.fields(audit.request) if field.init}
    given = inspect.signature(FUNCTIONS[audit.request]).parameters
    assert given.keys() == fields.keys()
    assert options(audit).keys() == fields.keys() - WITHOUT_OPTION
    for name, parameter in given.items():
        default = fields[name].default
        assert parameter.default is (inspect.Parameter.empty if default is dataclasses.MISSING else default)
        if name in options(audit) and not isinstance(default, tuple):
            assert options(audit)[name].default == default


@audits
def test_documentation_and_help_are_of_the_fields(audit):
    documentation = flat(FUNCTIONS[audit.request].__doc__)
    for told in parameters(audit.request):
        default = "" if told.default is dataclasses.MISSING else f", default={told.default!r}"
        assert f" {told.name} : {told.kind}{default} {told.text} {told.more}".rstrip() in documentation
        assert told.text.endswith(".") and told.more[-1:] in ("", ".")
        if told.flags:
            option = options(audit)[told.name]
            assert option.help.startswith(told.text.partition(" None for ")[0])
            assert tuple(option.opts) == told.flags


@audits
def test_the_help_of_an_option_stands_once_in_the_source(audit):
    """In the request, and nowhere else: neither a docstring nor a command says it again."""
    root = Path(auditing.__file__).parents[1]
    files = [*(root / "cli").glob("*.py"), *(root / "auditing").rglob("*request.py"), root / "auditing" / "api.py"]
    sources = [flat(file.read_text(encoding="utf-8")) for file in files]
    for told in parameters(audit.request):
        if told.flags and told.name != "fail_under":  # which is put together of parts
            assert sum(source.count(told.text) for source in sources) == 1, told.name


@audits
def test_values_from_text_are_those_of_python(audit):
    """An option takes what the default of its field is written as, and then says what the default says."""
    given, expected = {}, {}
    for told in parameters(audit.request):
        if told.flags and told.default is not None:
            default = told.default
            written = list(map(str, default)) if isinstance(default, tuple) else default
            commas = re.match("sequence of (float|{)", told.kind)
            given[told.name] = [",".join(written)] if commas else written
            expected[told.name] = list(default) if isinstance(default, tuple) else default
    assert values_of(audit.request, given) == expected


def test_what_documentation_lists_is_what_is_taken():
    from certimetric.auditing.embeddings.request import QUOTED, RADII
    from certimetric.auditing.retrieval.request import CERTIFY, NORMS
    from certimetric.deep.attacks import ATTACKS

    _, models, embeddings, *_ = ({told.name: told for told in parameters(audit.request)} for audit in AUDITS)
    for name, taken in (("norm", NORMS), ("attacks", ATTACKS), ("certify", CERTIFY)):
        assert re.findall(r'"([\w-]+)"', models[name].kind) == list(taken)
    told = embeddings["eps"].text.partition(" None for ")[2]
    assert [float(number) for number in re.findall(r"[0-9.]*[0-9]", told)] == list(RADII)
    assert f"{QUOTED} (which is quoted)" in told


def test_help_shows_every_attack_that_is_taken():
    from certimetric.deep.attacks import ATTACKS

    (attack,) = (option for option in COMMANDS["audit-model"].params if "--attack" in option.opts)
    assert attack.metavar == f"[{'|'.join(ATTACKS)}]"


def test_a_request_says_which_text_is_no_number():
    with pytest.raises(ValueError, match="--test-size must be a number, got 'some'"):
        values_of(AUDITS[0].request, {"test_size": "some"})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_short(command):
    assert sum(each.param_type_name == "option" for each in COMMANDS[command].params) <= 26
