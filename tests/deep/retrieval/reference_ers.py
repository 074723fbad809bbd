"""The empirical robustness score as a plain loop over queries: slow, and close to its definitions.

Each query is attacked alone, with the loss of the definition over the whole gallery differentiated by torch, and each
ranking is a list of all distances. What is drawn at random, rows of the gallery and the direction in which ES leaves,
is given, so that values can be compared one by one.
"""

import torch
from torch.nn.functional import cosine_similarity, normalize

TOP = 4  # of GTT


def place(embeddings, metric):
    return embeddings if metric == "euclidean" else normalize(embeddings, dim=1)


def distances(points, gallery, metric):
    """All distances (m, n), by differences: products would hide which of two equal items is nearer."""
    if metric == "cosine":
        return 1 - points @ gallery.T
    squared = (points[:, None] - gallery[None]).pow(2).sum(dim=2)
    return squared.clamp_min(1e-24).sqrt()


def loss(goal, e, i, known):
    """What the attacker of query i minimises, from its embedding e of shape (1, k)."""
    gallery, metric, ids, labels, rows = (known[key] for key in ("gallery", "metric", "ids", "labels", "rows"))
    if goal == "ES":
        return -distances(e, place(known["nudged"][i : i + 1], metric), metric)[0, 0]
    if goal == "TMA":
        return 1 - cosine_similarity(e, gallery[rows["TMA"][i]][None])[0]
    d = distances(e, gallery, metric)[0]
    other = ids != known["own_ids"][i]
    negative = labels != known["own_labels"][i]
    if goal == "LTM":
        return (d[negative].max() - d[~negative & other].min()).clamp_min(0)
    if goal == "GTM":
        return d[known["negative"][i]]
    row = int(rows[goal][i])
    if goal in ("CA+", "CA-"):
        to_items = distances(gallery[row : row + 1], gallery, metric)[0]
        hinge = d[row] - to_items[other & (ids != ids[row])]
    else:
        hinge = d[row] - d[other & (ids != ids[row])]
    return (hinge if goal.endswith("+") else -hinge).clamp_min(0).sum()


def attacked(model, x, goal, i, known, budget):
    """PGD from the picture itself; the best point of all counts."""
    best, best_loss, point = x, torch.inf, x
    for step in range(budget.steps + 1):
        point = point.detach().requires_grad_(True)
        value = loss(goal, place(model(point), known["metric"]), i, known)
        if value.item() < best_loss:
            best, best_loss = point.detach(), value.item()
        if step == budget.steps:
            break
        gradient = torch.autograd.grad(value, point, allow_unused=True)[0]
        gradient = torch.zeros_like(x) if gradient is None else gradient
        point = (point - budget.step_size * gradient.sign()).clamp(x - budget.eps, x + budget.eps).clamp(0, 1)
    return best


def right(d, i, known):
    """Whether an item of the query's class is nearer than all of the others."""
    other, negative = known["ids"] != known["own_ids"][i], known["labels"] != known["own_labels"][i]
    return 100.0 * float(d[~negative & other].min() < d[negative].min())


def reference_values(model, queries, gallery, rows, nudged, budget, metric="euclidean", unit=1.0):
    """Raw values of the ten figures for each query, by name."""
    model.eval().requires_grad_(False)
    with torch.no_grad():
        placed = place(model(gallery.images), metric)
    nudged = nudged.to(placed.dtype)
    known = {"gallery": placed, "metric": metric, "ids": gallery.ids, "labels": gallery.labels, "rows": rows}
    known |= {"own_ids": queries.ids, "own_labels": queries.labels, "nudged": nudged, "negative": {}}
    values = {name: [] for name in ("CA+", "CA-", "QA+", "QA-", "TMA", "ES:D", "ES:R", "LTM", "GTM", "GTT")}
    for i in range(len(queries)):
        x = queries.images[i : i + 1]
        with torch.no_grad():
            clean = place(model(x), metric)
            to_all = distances(clean, placed, metric)[0]
            to_all[gallery.labels == queries.labels[i]] = torch.inf
            known["negative"][i] = int(to_all.argmin())
        others = gallery.ids != queries.ids[i]
        for goal in ("CA+", "CA-", "QA+", "QA-", "TMA", "ES", "LTM", "GTM", "GTT"):
            changed = attacked(model, x, goal, i, known, budget)
            with torch.no_grad():
                e = place(model(changed), metric)
                d = distances(e.double(), placed.double(), metric)[0]
            if goal == "ES":
                values["ES:D"].append(float(distances(e.double(), clean.double(), metric)[0, 0]) / unit)
                values["ES:R"].append(right(d, i, known))
            elif goal in ("LTM", "GTM"):
                values[goal].append(right(d, i, known))
            elif goal == "TMA":
                values[goal].append(float(cosine_similarity(e.double(), placed[rows["TMA"][i]].double()[None])))
            else:
                row = int(rows[goal][i])
                compared = others & (gallery.ids != gallery.ids[row])
                if goal.startswith("CA"):
                    to_items = distances(placed[row : row + 1].double(), placed.double(), metric)[0]
                else:
                    to_items = d
                ahead = (to_items < d[row] if goal.endswith("+") else to_items <= d[row]) & compared
                n = int(ahead.sum())
                values[goal].append(100.0 * float(n < TOP) if goal == "GTT" else 100.0 * n / int(compared.sum()))
    return {name: torch.tensor(found, dtype=torch.double) for name, found in values.items()}
