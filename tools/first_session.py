"""Follow docs/start.md in an environment that has the wheel, and write what a reader sees: docs/first-session.md.

    python tools/first_session.py PYTHON [WITHOUT]

PYTHON is the interpreter of an environment with the wheel and its extra `deep`. Commands in which the regular
expression WITHOUT finds something are not run, and the page says so. What stands on stderr is progress, and left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "first-session.md"
_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", flags=re.S | re.M)
_MARK = "\x01"  # between what the snippets of a reader print
_TABLE = """
import numpy as np, pandas as pd
random = np.random.default_rng(0)
table = pd.DataFrame({"age": random.integers(18, 80, 200), "income": random.normal(3, 1, 200).round(3)})
table["churned"] = np.where(table["income"] + table["age"] / 50 > 4, "yes", "no")
table.to_csv("customers.csv", index=False)
"""
_MODEL = """from certimetric.deep import embedding_model


def factory():
    return embedding_model("small-cnn", seed=0)
"""
_HEAD = """# A first session

What [Start here](start.md) shows, followed to the letter in an environment that has nothing but the wheel (version
{}, Python {}, `pip install "certimetric[deep]"`) beside the folder `configs` of a clone, and what came. `customers.csv`
is a table of 200 rows; `package/module.py` has a function that makes a network. `python tools/first_session.py PYTHON`
writes this page again. Seconds are those of a machine that had other work.
"""


def session(python: str, without: str, desk: Path) -> str:
    """The page: every block of the guide, and what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CERTIMETRIC_DATA")}
    environment["PATH"] = os.pathsep.join((str(Path(python).parent), os.environ["PATH"]))

    def printed(*command: str) -> str:
        done = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command[-1]}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return "\n".join(line.rstrip() for line in done.stdout.splitlines())

    printed(python, "-c", _TABLE)
    (desk / "package").mkdir()
    (desk / "package" / "module.py").write_text(_MODEL, encoding="utf-8")
    shutil.copytree(ROOT / "configs", desk / "configs")
    what = "import certimetric, platform, sys; assert certimetric.__file__.startswith(sys.prefix)"
    page = _HEAD.format(
        *printed(python, "-c", f"{what}; print(certimetric.__version__, platform.python_version())").split()
    )
    guide = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", guide, flags=re.S | re.M):
        page += f"\n## {title}\n"
        blocks = _BLOCK.findall(text)
        snippets = [body for kind, body in blocks if kind == "python"]
        found = iter(printed(python, "-c", f"\nprint({_MARK!r})\n".join(snippets)).split(_MARK))
        for kind, body in blocks:
            if kind == "python":
                marked = "".join(f"{'... ' if line[:1] in ' )' else '>>> '}{line}\n" for line in body.splitlines())
                page += f"\n```text\n{marked}{next(found).strip(chr(10))}".rstrip() + "\n```\n"
                continue
            for command in re.findall(r"^\$ (certimetric .*)", body, flags=re.M):
                run = not (without and re.search(without, command))
                told = printed("bash", "-c", command) if run else "(not run for this page)"
                page += f"\n```text\n$ {command}\n{told}\n```\n"
    return page


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(session(sys.argv[1], "".join(sys.argv[2:3]), Path(folder)), encoding="utf-8")
