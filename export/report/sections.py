"""The page's sections for a report's parts: tables of texts, ready for the template."""

from __future__ import annotations

import shlex
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from tfkd.escaping import printable
from tfkd.export.micro import boards
from tfkd.export.report import outcome_plots
from tfkd.export.report.answer import fits_of, kilobytes
from tfkd.export.report.benchmark_page import Table
from tfkd.export.report.entries import Front, ModelEntry
from tfkd.export.report.predictions import Changed, Predictions
from tfkd.export.report.svg import Picture

# Up to this many classes, the matrix shows numbers; with more, the most confused pairs.
_MOST_CROSSED, _MOST_PAIRS, _MOST_ROWS = 16, 12, 40


def front(candidates: Front | None) -> dict[str, Any] | None:
    """Return the candidates of a search as a picture and a table."""
    if candidates is None or not candidates.candidates:
        return None
    share, tried = candidates.metric == "accuracy", candidates.candidates
    columns = [
        ("candidate", [one.name + (", chosen" if one.chosen else "") for one in tried]),
        (candidates.unit, [f"{one.cost:,.4g}" for one in tried]),
        (
            f"{candidates.part} {candidates.metric}",
            [f"{one.score:.1%}" if share else f"{one.score:.4g}" for one in tried],
        ),
        *(
            (title, [None if v is None else f"{v:,}" for v in values])
            for title, values in (
                ("epochs", [one.epochs for one in tried]),
                ("weights", [one.parameters for one in tried]),
                ("arena, bytes", [one.arena_bytes for one in tried]),
            )
            if any(v is not None for v in values)
        ),
    ]
    return {
        "picture": outcome_plots.front(candidates),
        "table": Table.of("Students that were tried", columns),
    }


def answers(found: Predictions | Mapping[str, Predictions] | None) -> list[dict[str, Any]]:
    """Return the section about a file's answers, for each of its outputs."""
    if not isinstance(found, Mapping):
        return [] if found is None else [_answers(found, None)]
    return [_answers(one, output) for output, one in found.items()]


def _answers(found: Predictions, output: str | None) -> dict[str, Any]:
    """Return the section about one output: its classes, errors and examples."""
    of = "" if output is None else f" of {output}"
    is_share = found.metric == "accuracy"
    number = "{:.1%}" if is_share else "{:.4g}"
    return {
        "name": found.name,
        "output": output,
        "of": of,
        "against": found.against,
        "examples": f"{found.examples:,}",
        "metric": found.metric if is_share else found.metric.upper(),
        "score": number.format(found.score),
        "against_score": number.format(found.against_score),
        "interval": found.interval,
        "is_share": is_share,
        "lost": found.lost,
        "won": found.won,
        "other": found.other,
        "crossed": _crossed(found),
        "confused": _confused(found, of),
        "classes": _classes(found, of),
        "errors": found.errors and outcome_plots.errors(found.errors, found.name, found.against),
        "changed": [_changed(one, is_share) for one in found.changed],
    }


def _crossed(found: Predictions) -> dict[str, Any] | None:
    """Return the confusion matrix: a row for each label, with each cell's share of its row."""
    if found.confusion is None or len(found.confusion) > _MOST_CROSSED:
        return None
    names = [one.name for one in found.classes]
    rows = []
    for i, (name, counts) in enumerate(zip(names, found.confusion, strict=True)):
        whole = sum(counts) or 1
        cells = [
            {"count": count, "share": round(count / whole, 3), "right": i == j}
            for j, count in enumerate(counts)
        ]
        rows.append({"name": name, "cells": cells})
    return {"names": names, "rows": rows}


def _confused(found: Predictions, of: str) -> Table | None:
    """Return the most frequent wrong pairs of label and answer."""
    if found.confusion is None:
        return None
    names = [one.name for one in found.classes]
    pairs = sorted(
        (-count, i, j)
        for i, counts in enumerate(found.confusion)
        for j, count in enumerate(counts)
        if count and i != j
    )[:_MOST_PAIRS]
    if not pairs or len(names) <= _MOST_CROSSED:
        return None
    columns = [
        ("label", [names[i] for _, i, _ in pairs]),
        ("answered as", [names[j] for _, _, j in pairs]),
        ("times", [f"{-count:,}" for count, _, _ in pairs]),
    ]
    return Table.of(f"What was confused most{of}", columns)


def _classes(found: Predictions, of: str) -> dict[str, Any] | None:
    """Return a table of the classes; if there are many, of those with the lowest recall."""
    if not found.classes:
        return None
    worst = sorted(
        range(len(found.classes)),
        key=lambda i: 2.0 if found.classes[i].recall is None else found.classes[i].recall,
    )[:_MOST_ROWS]
    shown = [one for i, one in enumerate(found.classes) if i in set(worst)]

    def shares(key: str) -> list[str | None]:
        values = [getattr(one, key) for one in shown]
        return [None if value is None else f"{value:.1%}" for value in values]

    columns = [
        ("class", [one.name for one in shown]),
        ("labelled", [f"{one.labelled:,}" for one in shown]),
        ("precision", shares("precision")),
        ("recall", shares("recall")),
        ("F1", shares("f1")),
        (f"recall of {found.against}", shares("against_recall")),
    ]
    caption = f"Score of each class{of}"
    if len(shown) < len(found.classes):
        caption = f"The {len(shown)} of {len(found.classes)} classes{of} with the least recall"
    return {"table": Table.of(caption, columns)}


def _changed(one: Changed, is_class: bool) -> dict[str, Any]:
    where = f"example {one.index:,}" + "".join(f", {place}" for place in one.position)
    label, before, now = (
        str(value) if is_class else f"{value:.4g}"
        for value in (one.label, one.against_answer, one.answer)
    )
    verdict = ""
    if is_class:
        verdict = "lost" if before == label else "won" if now == label else "both wrong"
    return {
        "where": where,
        "label": label,
        "before": before,
        "now": now,
        "verdict": verdict,
        "image": one.image,
        "alternative": printable(f"The input of {where}"),
    }


def training(
    histories: dict[str, dict[str, list[float]]],
    goes_on_from: Mapping[str, str],
    task: str | Mapping[str, str],
) -> list[Picture]:
    """Return pictures of the training curves, one for each output if there are several.

    Args:
        histories: Model name → metric → a value per epoch; with several outputs metrics are
            `"val_NAME_accuracy"`.
        goes_on_from: As for `outcome_plots.training`.
        task: The report's task; for several outputs a dict by name.
    """
    if not isinstance(task, Mapping):
        drawn = [outcome_plots.training(histories, goes_on_from)]
    else:
        drawn = [
            outcome_plots.training(
                {
                    name: {
                        key.replace(f"val_{output}_", "val_"): values
                        for key, values in history.items()
                        if key.startswith(f"val_{output}_")
                    }
                    for name, history in histories.items()
                },
                goes_on_from,
                f"Training of {output}",
            )
            for output in task
        ]
    return [picture for picture in drawn if picture is not None]


def layers(models: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return the error and the bits of each layer, for the files that have such measurements."""
    found = []
    for model in models:
        if not model.layers:
            continue
        rows = model.layers
        columns = [
            ("layer", [row.name for row in rows]),
            ("bits of its weights", [row.bits and str(row.bits) for row in rows]),
            ("adds", [None if row.added is None else f"{row.added:.2%}" for row in rows]),
            (
                "error of its result",
                [
                    None if row.relative_error is None else f"{row.relative_error:.2%}"
                    for row in rows
                ],
            ),
        ]
        found.append(
            {
                "table": Table.of(f"Errors in {model.name}", columns),
                "picture": outcome_plots.layers(rows),
            }
        )
    return found


def architectures(models: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return the layers of each model; models with the same layers share a table."""
    alike: dict[tuple, list[ModelEntry]] = {}
    for model in models:
        if model.architecture:
            alike.setdefault(model.architecture, []).append(model)
    found: list[dict[str, Any]] = []
    for rows, same in alike.items():
        model, name = same[0], ", ".join(one.name for one in same)
        columns = [
            ("layer", [row.name for row in rows]),
            ("class", [row.kind for row in rows]),
            ("weights", [f"{row.parameters:,}" for row in rows]),
            ("MACs", [None if row.macs is None else f"{row.macs:,}" for row in rows]),
        ]
        known = [f"{len(rows)} layers"]
        if model.parameters is not None:
            known.append(f"{model.parameters:,} weights")
        if model.macs is not None:
            known.append(f"{model.macs:,} multiply-accumulates")
        found.append(
            {
                "name": name,
                "said": ", ".join(known),
                "table": Table.of(f"Layers of {name}", columns),
            }
        )
    return found


def micro(models: Sequence[ModelEntry], board: str | boards.Board | None) -> list[dict[str, Any]]:
    """Return the facts about microcontrollers, for the files that were run on their runtime."""
    found, known = [], boards.find(board)
    for model in models:
        figures = model.micro or {}
        facts = {}
        if figures.get("supported") is False:
            facts["runs"] = f"no: {figures.get('reason') or 'the runtime refuses it'}"
        if figures.get("arena_bytes") is not None:
            facts["least arena"] = f"{figures['arena_bytes']:,} bytes"
        if figures.get("margin_bytes") is not None:
            facts["margin for a target"] = f"{figures['margin_bytes']:,} bytes"
        if figures.get("arena_basis"):
            facts["found by"] = figures["arena_basis"]
        for metric, value in (figures.get("metrics") or {}).items():
            facts[f"{metric} there"] = f"{value:.4g}"
        for one in fits_of(model, board) or ():
            facts[f"{one['resource']} of the {known.name}"] = (
                f"{one['needed_bytes']:,} of {one['available_bytes']:,} bytes; "
                f"{abs(one['free_bytes']):,} {'left' if one['free_bytes'] >= 0 else 'missing'}"
            )
        if facts:
            found.append({"name": model.name, "facts": facts})
    return found


def operators(models: Sequence[ModelEntry]) -> Table | None:
    """Return the count of each operator in each file."""
    files = [model for model in models if model.ops]
    if not files:
        return None
    kinds = dict.fromkeys(kind for model in files for kind in model.ops)
    columns = [("operator", list(kinds))]
    for model in files:
        counts = [model.ops.get(kind) for kind in kinds]
        columns.append((model.name, [None if count is None else str(count) for count in counts]))
    return Table.of("Operators of each file", columns)


def notes(models: Sequence[ModelEntry]) -> dict[str, str]:
    """Return further facts about each file, in words."""
    found = {}
    for model in models:
        known = []
        if model.integer_only is not None and model.stage == "export":
            known.append("integers only" if model.integer_only else "floating point")
        if model.four_bit_weights:
            known.append(f"{model.four_bit_weights:,} weights of 4 bits")
        steps = (model.parity or {}).get("max_lsb")
        if steps is not None:
            known.append(f"at most {steps:.0f} steps of the output from its model")
        if model.keeps_state:
            known.append("keeps state: reset before each sequence")
        if known:
            found[model.name] = " · ".join(known)
    return found


def files(models: Sequence[ModelEntry]) -> list[dict[str, str]]:
    """Return the files beside the page: their names, addresses and descriptions."""
    found = []
    for model in models:
        if model.path is None:
            continue
        what = f"{model.format} .tflite file" if model.stage == "export" else "Keras model"
        # A .keras file may contain the optimizer's state, so its size is not that of the model.
        if model.stage == "export" and model.bytes is not None:
            what += f", {kilobytes(model.bytes)}"
            what += f" ({kilobytes(model.gzip_bytes)} after gzip)" if model.gzip_bytes else ""
        found.append(
            {
                "path": model.path,
                "address": "./" + urllib.parse.quote(model.path),
                "what": what,
            }
        )
    return found


def commands(models: Sequence[ModelEntry], given: Sequence[str]) -> list[str]:
    """Return the commands that make or measure the files again."""
    paths = [shlex.quote(printable(m.path)) for m in models if m.path and m.stage == "export"]
    if not paths:
        return list(given)
    threads = {model.threads for model in models if model.threads}
    asked = f" --threads {threads.pop()}" if len(threads) == 1 else ""
    return [*given, f"tfkd benchmark {' '.join(paths)}{asked}", f"tfkd inspect {paths[-1]}"]
