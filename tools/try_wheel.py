"""Install a wheel into an empty environment, the core alone, and say what works there.

    python tools/try_wheel.py dist/certimetric-….whl

Ends with exit code 1 if something of the core fails, if what needs an extra does not say so, or if the package that was
tried is not that of the wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

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


def main(wheel: Path) -> int:
    """Number of things that failed."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        binaries = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
        python = str(binaries / "python")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment["MPLBACKEND"] = "Agg"

        def tried(name: str, arguments: list[str]) -> bool:
            done = subprocess.run(arguments, cwd=home, env=environment, capture_output=True, text=True)
            told = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:] or [""]
            print(f"{'works ' if done.returncode == 0 else 'FAILED'}  {name}: {told[0][:150]}", flush=True)
            return done.returncode == 0

        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", str(wheel.resolve())]
        if not tried("pip install, the core alone", pip):
            return 1
        where = "import certimetric, sys; assert certimetric.__file__.startswith(sys.prefix), certimetric.__file__"
        results = [tried("the package is that of the wheel", [python, "-c", where])]
        results += [tried(name, [python, "-c", code]) for name, code in CHECKS.items()]
        command = str(binaries / "certimetric")
        results += [tried(f"certimetric {' '.join(rest)}", [command, *rest]) for rest in COMMANDS]
        return results.count(False)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
