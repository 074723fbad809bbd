"""``certimetric bench``: the plan of a suite, its run, and all that is written of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from certimetric.bench.datasets import find_datasets
from certimetric.bench.results import write_results
from certimetric.bench.suites import find_suite
from certimetric.bench.suites.base import Suite
from certimetric.datasets.data_root import data_root
from certimetric.runs.containment import in_children, on_dask
from certimetric.runs.scheduling import Outcome, run_cells
from certimetric.runs.store import FILE, claimed, existing

KIND = "a benchmark"


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked before work starts; the default of ``data_root`` is that of ``CERTIMETRIC_DATA``."""

    suite: str
    out: Path
    data_root: Path | None = None
    n_jobs: int = 2
    dask: str | None = None
    timeout: float | None = None
    splits: int | None = None
    seed: int = 0
    resume: bool = False
    retry: bool = False

    def check(self) -> Suite:
        """The suite, if all is well; else a ValueError or an OSError that names the option."""
        suite = find_suite(self.suite)
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise ValueError(f"--jobs must be a number of processes, or -1 for one per core, got {self.n_jobs}")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"--timeout must be a positive number of seconds, got {self.timeout:g}")
        if self.splits is not None and self.splits < 1:
            raise ValueError(f"--splits must be at least 1, got {self.splits}")
        if self.seed < 0:
            raise ValueError(f"--seed must be at least 0, got {self.seed}")
        if self.retry and not self.resume:
            raise ValueError("--retry runs failed cells of earlier runs again: it needs --resume")
        if self.out.exists() and not self.out.is_dir():
            raise OSError(f"--out: {str(self.out)!r} is a file, not a folder")
        has_results = (self.out / FILE).exists()
        if has_results and not self.resume:
            raise FileExistsError(f"{str(self.out)!r} holds results already: add --resume, or choose another --out")
        if has_results:
            with existing(self.out, KIND) as store:
                if (other := store.about("suite")) not in (None, suite.name):
                    raise ValueError(f"{str(self.out)!r} holds results of the suite {other!r}: choose another --out")
        return suite


def run_benchmark(
    asked: Asked, *, command: str = "", progress: bool = False, say: Callable[[str], None] = lambda text: None
) -> tuple[Outcome, dict[str, str]]:
    """Run a suite and write its tables, plots and report; the data sets that were not at hand come with the reason.

    ``command`` is told in the report, as it was typed; ``say`` is told what is about to happen.
    """
    suite = asked.check()
    root = asked.data_root or data_root()
    found, missing = find_datasets(suite.datasets(), root)
    further, _ = find_datasets(suite.further(), root, network=False)
    found += further
    if not found:
        raise FileNotFoundError(f"no data set of the suite {suite.name!r} is at hand: name their folder by --data-root")
    cells = suite.cells(found, seed=asked.seed, splits=asked.splits or suite.splits)
    say(f"{suite.name}: {len(cells)} cells, {len(found)} data sets" + (f", {len(missing)} missing" if missing else ""))
    with claimed(asked.out, KIND) as store:
        store.tell("suite", suite.name)
        store.tell("plan", {"keys": [cell.key for cell in cells], "missing": missing, "command": command})
        if asked.dask is None:
            execute = in_children(suite.reference, asked.n_jobs, asked.timeout)
        else:
            execute = on_dask(suite.reference, asked.dask, asked.timeout)
        try:
            outcome = run_cells(
                cells,
                store,
                execute,
                usable=lambda record: record.done or not asked.retry,
                progress=progress,
                name=suite.name,
            )
        finally:
            write_results(suite, store)
    return outcome, missing


def render(folder: Path) -> Suite:
    """Write tables, plots and report again, from the results in a folder alone."""
    with existing(folder, KIND) as store:
        suite = find_suite(store.about("suite") or "")
        write_results(suite, store)
    return suite
