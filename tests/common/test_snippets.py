"""What the pages show runs as written: Python snippets, commands, configurations.

The snippets of a page are read one after the other and share a namespace, as a reader in one session has it; each of
the README stands on its own. Nothing is defined for them. What a reader has and this machine does not is in the tables
below.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

from certimetric.attacks import FeatureRules
from certimetric.cli import main
from certimetric.cli.app import app
from certimetric.training import TrainingConfig

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GALLERY = ROOT / "docs" / "gallery"  # made of examples/, whose scripts have a test of their own
PAGES = [README, *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent != GALLERY)]
EXTRAS = {"torch": "torch", "dask": "dask.array", "polars": "polars", "pyarrow": "pyarrow"}


# --- What a reader has at hand, written into the folder in which a page runs. Every page has the tables of customers.


def customers():
    """Two tables of a reader: customers.csv with who churned, and new.csv without."""
    rng = np.random.default_rng(0)
    age, income = rng.integers(18, 80, 220), rng.normal(3, 1, 220).clip(0).round(3)
    table = pd.DataFrame({"age": age, "children": rng.integers(0, 4, 220), "income": income})
    table["sex"] = rng.integers(0, 2, 220)
    table["churned"] = np.where(income + 0.02 * age > 4, "yes", "no")
    table[:200].to_csv("customers.csv", index=False)
    table[200:].drop(columns="churned").to_csv("new.csv", index=False)


def bank():
    """bank.csv as a bank has it, and applicants.csv without the outcome."""
    rng = np.random.default_rng(0)
    n = 140
    age, income, job = rng.integers(18, 80, n), rng.normal(3000, 900, n).clip(400), rng.choice(["clerk", "smith"], n)
    table = pd.DataFrame({"customer": [f"C{i}" for i in range(n)], "age": age, "job": job})
    table["income"] = [f"{each:,.2f}".translate(str.maketrans(",.", ".,")) for each in income]
    table["opened"] = (pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.permutation(n), unit="D")).strftime("%Y-%m-%d")
    table["status"] = np.where(income + 20 * age > 4000, "good", "bad")
    table.loc[3, "income"] = "n.v."
    table[:130].to_csv("bank.csv", sep=";", index=False)
    table[130:].drop(columns="status").to_csv("applicants.csv", sep=";", index=False)


def patients():
    """The tables that the page's first snippet writes, in small, and its metric."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(18, 80, 80), "sex": rng.integers(1, 3, 80), "bmi": rng.normal(26, 4, 80)})
    table["outcome"] = np.where(table["bmi"] + rng.normal(0, 2, 80) > 26, "worse", "stable")
    table[:70].to_csv("patients.csv", index=False)
    table[70:].drop(columns="outcome").to_csv("new.csv", index=False)


def birds():
    """The layout of CUB-200-2011 with two classes on each side."""
    image = pytest.importorskip("PIL.Image")
    root = Path("data/CUB_200_2011")
    files = [f"{key:03d}.Bird/Bird_{i}.jpg" for key in (1, 2, 101, 102) for i in range(2)]
    for file in files:
        (root / "images" / file).parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (12, 12)).save(root / "images" / file)
    (root / "images.txt").write_text("".join(f"{i} {file}\n" for i, file in enumerate(files)))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {int(file[:3])}\n" for i, file in enumerate(files)))
    (root / "classes.txt").write_text("".join(f"{key} {key:03d}.Bird\n" for key in (1, 2, 101, 102)))


def short_run():
    """The run of the page's own digits.toml, of one epoch in place of fifteen."""
    assert main(["train", "digits.toml", "--epochs", "1", "--out", "runs/digits"]) == 0


def embeddings():
    """Embeddings of two models."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    for name in "ab":
        np.savez(f"{name}.npz", embeddings=rng.standard_normal((60, 8)) + 2 * labels[:, None], labels=labels)


def program():
    """A program of torch.export, as the page's own snippet saves it."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.rand(2, 1, 8, 8),), dynamic_shapes=sizes), "model.pt2")


def shop():
    """The files that the page's first snippet writes, in small."""
    pytest.importorskip("torch")
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 6
    points = (rng.standard_normal((600, 8)) + 2 * labels[:, None]).astype("float32")
    made = pd.date_range("2026-01-01", periods=600, freq="h")
    pd.DataFrame({"vector": list(points), "sku": labels, "id": range(600), "time": made}).to_parquet("items.parquet")
    np.save("items.npy", points)
    np.save("names.npy", labels)


STUBS = {
    "docs/raw-tables.md": [bank],
    "docs/table-to-decision.md": [patients],
    "docs/deep.md": [birds],
    "docs/training.md": [short_run],
    "docs/embedding-audit.md": [embeddings],
    "docs/own-models.md": [program],
    "docs/embeddings.md": [shop],
}

# Pages whose Python takes more than a few seconds.
SLOW = {
    "README.md",
    "docs/attacks.md",
    "docs/deep.md",
    "docs/ers.md",
    "docs/own-models.md",
    "docs/scaling.md",
    "docs/start.md",
    "docs/threats.md",
    "docs/training.md",
    "docs/verification.md",
}

# Commands that are not run, by what they contain: their options are read all the same.
NOT_RUN = {
    "omniglot": "needs a data set that is not bundled",
    "--data-root DATA": "needs data sets that are not bundled",
    "openml:": "needs the network",
    "transactions.parquet": "needs a large table of the reader, and minutes",
    "faces.csv": "needs files of the reader, as tests/cli/test_verify has them",
    "people.csv": "needs files of the reader, as tests/cli/test_verify has them",
    "package.module:factory": "needs a model of the reader",
    "--images photos/": "needs pictures and models of the reader",
    "audit digits": "takes minutes, as `make demo` does",
    "bench quick": "takes minutes, as tests/bench does in small",
    "configs/digits-": "takes minutes, as `make demo` does",
    "runs/": "needs runs that take minutes, as tests/cli does in small",
    "digits.toml": "takes minutes; the page's Python runs it for one epoch",
    "--dask": "needs a cluster of the reader",
}
# Commands of others than certimetric, which pages may show.
OTHERS = {"make", "pip", "python", "tensorboard", "torchrun", "uv", "export", "cd", "dask"}


def blocks(page, language):
    """Line and text of each block of code in a language, dedented."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(rf"^( *)```{language}[^\n]*\n(.*?)^ *```", text, flags=re.S | re.M):
        code = re.sub(f"^{found[1]}", "", found[2], flags=re.M)
        yield text[: found.start(2)].count("\n") + 1, code


def commands(page):
    """Every command of the console blocks of a page, lines that go on joined, comments left out."""
    for line, text in blocks(page, "console"):
        shown = re.findall(r"^\$ (.*)", text.replace("\\\n", " "), flags=re.M)
        assert shown, f"{page.name}:{line}: a console block without a command"
        yield from (shlex.split(command, comments=True) for command in shown)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def own(page):
    return [command[1:] for command in commands(page) if command[0] == "certimetric"]


def runs(command):
    return not any(part in " ".join(command) for part in NOT_RUN)


def each(having, slow=()):
    """Pages that have something, as cases; those whose names are in ``slow`` marked."""
    found = [page for page in PAGES if having(page)]
    assert found
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(page, id=name_of(page), marks=marks[name_of(page) in slow]) for page in found]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what a reader of a page has, and with the files that the page shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def prepare(page, stubs=True):
        customers()
        for language in ("python", "toml"):
            for _, text in blocks(page, language):
                if named := re.match(r"# (\w+\.\w+)\n", text):
                    Path(named[1]).write_text(text, encoding="utf-8")
        for stub in STUBS.get(name_of(page), []) if stubs else []:
            stub()

    return prepare


def run(page, line, code, namespace):
    """Run a snippet; tracebacks tell the line of the page."""
    exec(compile("\n" * (line - 1) + code, name_of(page), "exec"), namespace)


def needs(page):
    text = "".join(code for _, code in blocks(page, "python"))
    for name, module in EXTRAS.items():
        if re.search(rf"\b(import|from) {name}\b|certimetric\.deep", text):
            pytest.importorskip(module if name in text else "torch")


@pytest.mark.parametrize("page", each(lambda page: [*blocks(page, "python")], SLOW))
def test_snippets_run_as_written(page, desk):
    needs(page)
    desk(page)
    namespace = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        if page == README:
            assert len(code.splitlines()) <= 12
            namespace = {"__name__": "__main__"}  # each on its own
        run(page, line, code, namespace)


@pytest.mark.parametrize("page", each(own))
def test_commands_have_the_options_that_are_shown(page):
    command = typer.main.get_command(app)
    for name, *rest in own(page):
        if not name.startswith("-"):
            assert name in command.commands, name
            command.commands[name].make_context(name, rest).close()  # raises on an unknown option, or a missing value


def test_an_unknown_option_is_seen():
    with pytest.raises(Exception, match="No such option"):
        typer.main.get_command(app).commands["audit"].make_context("audit", ["iris", "--nothing"])


@pytest.mark.slow
@pytest.mark.parametrize("page", each(lambda page: any(map(runs, own(page)))))
def test_commands_run(page, desk, capsys):
    desk(page)
    for arguments in filter(runs, own(page)):
        code = main(arguments)
        told = capsys.readouterr().err
        assert code == 0 or (code == 1 and "--fail-under" in arguments), f"{' '.join(arguments)}: {told}"


@pytest.mark.parametrize("page", each(lambda page: [*blocks(page, "console")]))
def test_console_blocks_show_known_programs(page):
    for command in commands(page):
        assert command[0] == "certimetric" or command[0] in OTHERS, command


@pytest.mark.parametrize("page", each(lambda page: [*blocks(page, "toml")]))
def test_configurations_are_whole(page, desk, tmp_path):
    pytest.importorskip("torch")
    desk(page, stubs=False)
    for number, (_, text) in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        if text.startswith("# rules.toml"):
            FeatureRules.read(file)
        else:
            TrainingConfig.from_file(file)
