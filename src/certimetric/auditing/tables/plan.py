"""The plan of an audit of a large table: a timed pilot, a first report soon, and larger ones within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from joblib import effective_n_jobs
from sklearn.base import clone

from certimetric.auditing.tables.cells import audit_cell, learned, tested
from certimetric.auditing.tables.evidence import evidence_cell, examine
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.sizes import FRAGILE, Costs, Sizes, expected, largest_within
from certimetric.auditing.tables.subjects import Subject
from certimetric.base.interrupts import is_interrupt
from certimetric.base.threads import single_threaded
from certimetric.base.wording import counted, span
from certimetric.learners import Euclidean
from certimetric.runs.cluster import count_workers
from certimetric.runs.store import Store

LARGE = 20_000  # rows, from which on an audit is planned, with or without a budget
FIRST_LOOK = 60.0  # seconds that the first report may take
_GROWTH = 6.0  # a stage takes so many times the seconds of the one before at most: it was planned by that one
_MARGIN = 1.15  # of what is expected
# Training rows; the most are as many as are searched by cells, and the tested ones enough for these to be worth it.
_PILOT_FITS, _PILOT_TESTS = (1000, 4000), (4000, 60_000)
_PILOT_TESTED, _PILOT_ATTACKED = 500, 4
_PILOT_SHARE = 0.1  # of the budget

Say = Callable[[str], None]
_PLAN = (
    "plan"  # what the store is told: of what, sizes of the stages begun, seconds spent, and whether no more is to come
)


def stages(request: Request, store: Store, say: Say) -> Iterator[Request]:
    """The request with the sizes of each stage; the next one is asked for when the stage before is in the store.

    What was planned is kept in the store. A run that goes on takes the stages that were begun, whose finished cells
    it finds there, and plans only what comes after them; what they took counts.
    """
    rungs, full = request.sizes.ladder(), request.everything
    about = [request.digest, request.budget, asdict(request.sizes), [subject.spec for subject in request.subjects]]
    known: dict[str, Any] = store.about(_PLAN) or {}
    if known.get("about") != about:  # none, or one of another audit that was begun here and has no report
        known = {"about": about, "stages": [], "spent": 0.0, "finished": False}
    if known["finished"]:
        yield request.sized(Sizes(**known["stages"][-1]))
        return
    clock, processes = time.perf_counter(), effective_n_jobs(request.n_jobs)
    if request.dask is not None:
        processes = count_workers(request.dask)
    before = float(known["spent"])

    def left() -> float:
        return float("inf") if request.budget is None else request.budget - before - (time.perf_counter() - clock)

    say("a pilot is timed, on a few thousand rows")
    costs = pilot(request, _PILOT_SHARE * left())

    def cost(sizes: Sizes) -> float:
        return _MARGIN * expected(costs, sizes, processes)

    whole = f"plan: {counted(len(request.subjects), 'learner')}, all of it about {span(cost(request.sizes))}"
    say(whole if request.budget is None else f"{whole}, budget {span(request.budget)}")
    begun = [Sizes(**sizes) for sizes in known["stages"]]
    sizes = begun[0] if begun else largest_within(rungs, cost, min(FIRST_LOOK, left())) or rungs[0]
    while True:
        if sizes not in begun:
            begun.append(sizes)
            known["stages"].append(asdict(sizes))
        store.tell(_PLAN, known)
        kind = "report" if sizes == rungs[-1] else "first report" if len(begun) == 1 else "next report"
        say(f"{kind}: {sizes.told(full)}; about {span(cost(sizes))}")
        if cost(sizes) > left():
            say(f"that may be longer than the {span(max(left(), 0.0))} that are left of the budget")
        start = time.perf_counter()
        stage = request.sized(sizes)
        yield stage
        took = time.perf_counter() - start
        known["spent"] = before + time.perf_counter() - clock
        store.tell(_PLAN, known)
        measure(stage, store, costs)
        position = begun.index(sizes) + 1
        if position < len(begun):
            sizes = begun[position]
            continue
        larger = rungs[rungs.index(sizes) + 1 :] if sizes in rungs else []
        allowed = left() if request.budget is None else min(left(), max(_GROWTH * took, FIRST_LOOK))
        following = largest_within(larger, cost, allowed)
        if following is None:
            break
        sizes = following
    if larger:
        say(f"nothing larger ends within the budget: {span(known['spent'])} of {span(request.budget or 0.0)} used")
    store.tell(_PLAN, {**known, "finished": True})


def pilot(request: Request, seconds: float = float("inf")) -> dict[str, Costs]:
    """What each learner costs, from fits on few rows; and a prediction and an attack, from the Euclidean distance.

    The smaller of the two sizes is timed always. The larger one is where it is expected to end within so many seconds,
    what it takes being in proportion to its rows.
    """
    costs = {subject.spec: Costs() for subject in request.subjects}
    plain, end = Subject("euclidean", "Euclidean", clone(Euclidean())), time.perf_counter() + seconds

    def fits(train: int) -> None:
        part = (few := _few(request, train)).part(0)
        for subject in request.subjects:
            try:
                _, told = learned(few, subject, 0, part)
                costs[subject.spec].fit.points[train] = told["fit_seconds"]
            except Exception as error:  # the cell will say what is wrong
                if is_interrupt(error):
                    raise KeyboardInterrupt from error

    def tests(train: int) -> None:
        part = (few := _few(request, train)).part(0)
        metric, _ = learned(few, plain, 0, part)
        taken = []
        for work in (tested, examine):
            start = time.perf_counter()
            work(few, metric, part, 0)
            taken.append(time.perf_counter() - start)
        for cost in costs.values():
            cost.test.points[train] = taken[0] / len(part.test)
            cost.attack.points[train] = taken[1] / (few.sizes.attacked + FRAGILE)

    with single_threaded():
        took: dict[Callable[[int], None], float] = {}
        for position in (0, 1):
            for work, rows in ((fits, _PILOT_FITS), (tests, _PILOT_TESTS)):
                train, start = min(rows[position], request.sizes.train), time.perf_counter()
                longer = rows[1] / rows[0] * took.get(work, 0.0)
                if position and (train <= rows[0] or start + longer > end):
                    continue
                work(train)
                took[work] = time.perf_counter() - start
    return costs


def measure(stage: Request, store: Store, costs: dict[str, Costs]) -> None:
    """What a finished stage says of the costs, in the place of what smaller ones said."""
    train, digest = stage.sizes.train, stage.digest
    for subject in stage.subjects:
        cell = audit_cell(stage, digest, subject, 0)
        cost, done, examined = costs[subject.spec], store.get(cell), store.get(evidence_cell(stage, cell))
        if done is not None and done.result is not None:
            cost.fit.points[train] = done.result["fit_seconds"]
            cost.test.points[train] = (done.seconds - done.result["fit_seconds"]) / done.result["n_test"]
        if examined is not None and examined.result is not None:
            cost.attack.points[train] = examined.seconds / (stage.sizes.attacked + FRAGILE)


def _few(request: Request, train: int) -> Request:
    sizes = request.sizes
    return request.sized(Sizes(train, min(sizes.test, _PILOT_TESTED), min(sizes.attacked, _PILOT_ATTACKED), 1))


def told_sizes(request: Request) -> dict[str, Any]:
    """The sizes as the document has them."""
    everything = request.everything
    return {
        **asdict(request.sizes),
        "of_train": everything.train,
        "of_test": everything.test,
        "of_repeats": everything.repeats,
        "budget_seconds": request.budget,
    }
