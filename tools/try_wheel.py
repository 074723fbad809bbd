"""Install a wheel into empty environments, the core alone, and say what works there.

    python tools/try_wheel.py dist/certimetric-….whl                               # this Python, by its own pip
    python tools/try_wheel.py dist/certimetric-….whl 3.10 3.10:lowest 3.13         # those Pythons, by uv

`:lowest` takes the oldest release of every dependency that pyproject.toml allows; otherwise the newest is taken. A
Python that uv does not find here is named as not tried. Ends with exit code 1 if something of the core fails,
if what needs an extra does not say so, or if the package that was tried is not that of the wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKS = {
    "import certimetric": "import certimetric; print(certimetric.__version__)",
    "a metric is learned, certified and saved": """
from sklearn.datasets import load_iris
from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric
X, y = load_iris(return_X_y=True)
knn = CertifiedKNeighborsClassifier(metric=LMNN()).fit(X[::2], y[::2])
labels, radii = knn.predict_with_radius(X[1::2])
knn.metric_.save("metric.safetensors")
assert MahalanobisMetric.load("metric.safetensors") == knn.metric_
print(f"accuracy {(labels == y[1::2]).mean():.3f}, median radius {sorted(radii)[len(radii) // 2]:.3f}")
""",
    "an attack": """
from sklearn.datasets import load_iris
from certimetric import CertifiedKNeighborsClassifier
from certimetric.attacks import RegionAttack
X, y = load_iris(return_X_y=True)
print(RegionAttack()(CertifiedKNeighborsClassifier().fit(X[::2], y[::2]), X[1:20:2]).success.mean())
""",
    "a plot": """
from matplotlib.figure import Figure
from certimetric import MahalanobisMetric
from certimetric.plots import MetricDisplay
display = MetricDisplay.from_estimator(MahalanobisMetric.from_matrix([[2, 0], [0, 1]]), ax=Figure().subplots())
display.figure_.savefig("metric.png")
""",
    "metric-learn's names": "from certimetric import metric_learn; print(len(metric_learn.__all__))",
    "without torch, certimetric.deep says what to install": """
import importlib.util
assert importlib.util.find_spec("torch") is None, "torch is there"
try:
    from certimetric.deep import PGD
except ImportError as error:
    assert "certimetric[deep]" in str(error), error
    print(error)
else:
    raise SystemExit("it was imported")
""",
    "types are shipped": """
from pathlib import Path
import certimetric
assert (Path(certimetric.__file__).parent / "py.typed").exists()
""",
}
COMMANDS = (
    ["--version"],
    ["--help"],
    ["datasets"],
    ["audit", "iris", "--repeats", "1", "--learner", "euclidean", "--out", "report"],
    ["fit", "iris", "--learner", "gmml", "-o", "gmml.safetensors"],
)


def tried(name: str, arguments: list[str], home: Path) -> bool:
    """Whether a command ended well, told in a line."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"MPLBACKEND": "Agg"}
    done = subprocess.run(arguments, cwd=home, env=environment, capture_output=True, text=True)
    told = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:] or [""]
    print(f"{'works ' if done.returncode == 0 else 'FAILED'}  {name}: {told[0][:150]}", flush=True)
    return done.returncode == 0


def installed(wheel: Path, home: Path, asked: str | None) -> Path | None:
    """The binaries of an environment that holds the wheel and its dependencies, or None if that failed."""
    binaries = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    if asked is None:
        venv.create(home / "venv", with_pip=True)
        pip = [str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", str(wheel)]
        return binaries if tried("pip install, the core alone", pip, home) else None
    version, _, resolution = asked.partition(":")
    install = ["uv", "pip", "install", "-q", "--python", str(binaries / "python")]
    # Of the oldest releases those that have a wheel for that Python: others were never tried with it.
    oldest = ["--resolution", "lowest-direct", "--only-binary", ":all:"] if resolution else []
    steps = {
        "environment": ["uv", "venv", "-q", "--python", version, str(home / "venv")],
        "dependencies": [*install, *oldest, "-r", str(ROOT / "pyproject.toml")],
        "the wheel": [*install, "--no-deps", str(wheel)],
    }
    return binaries if all(tried(name, step, home) for name, step in steps.items()) else None


def main(wheel: Path, asked: str | None = None) -> int:
    """Number of things that failed."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        binaries = installed(wheel.resolve(), home, asked)
        if binaries is None:
            return 1
        python, command = str(binaries / "python"), str(binaries / "certimetric")
        where = "import certimetric, sys; assert certimetric.__file__.startswith(sys.prefix), certimetric.__file__"
        results = [tried("the package is that of the wheel", [python, "-c", where], home)]
        results += [tried(name, [python, "-c", code], home) for name, code in CHECKS.items()]
        results += [tried(f"certimetric {' '.join(rest)}", [command, *rest], home) for rest in COMMANDS]
        return results.count(False)


def found(version: str) -> bool:
    """Whether uv finds that Python on this machine."""
    return subprocess.run(["uv", "python", "find", version], capture_output=True).returncode == 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = 0
    for asked in sys.argv[2:] or [None]:
        if asked:
            print(f"Python {asked}:", flush=True)
            if not found(asked.partition(":")[0]):
                print("not tried: uv finds no such Python here", flush=True)
                continue
        failed += main(Path(sys.argv[1]), asked)
    sys.exit(1 if failed else 0)
