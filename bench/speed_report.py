"""The results of the speed bench as Markdown: what was aimed at, then every part, then what was not measured."""

from collections.abc import Callable, Sequence
from typing import Any

from bench import speed_targets
from bench.speed_targets import median

Parts = dict[str, dict[str, Any]]

INTRODUCTION = """\
Made by `python bench/speed.py`. {processor}; {versions}; commit {commit}.

Speed is real (not padding) target tokens, language code and `</s>` included, per {unit}.
**Recipe**: `Seq2SeqTrainer` as the starting document writes it, 4 pairs x 4 accumulated, padded to the longest of each
microbatch. **Expert**: the same, tuned: half precision, batches of similar length, no accumulation. Nothing is saved,
evaluated or reported on any side; dropout is NLLB's 0.1, the optimizer the Trainer's default, fused AdamW.
transformers' faults here do not touch speed and are left in: accumulation multiplies the loss by 4; label smoothing
crashes, so no side smooths. Weights are random. The text is real: sentences from the catalogues of Django, Wagtail,
Sphinx, allauth, Django REST framework and WTForms.
"""
MODEL = """\
Model `{name}`: NLLB's architecture, width {width}, {layers} + {layers} layers, {rows:,} rows, {millions:.1f} million
weights. The vocabulary's share of the multiplications is V / (V + 28 L d) = {vocabulary_share:.1%}, that of the 600M.
The text uses {used_rows:,} rows ({used_share:.1%}), spread over all. The active vocabulary trains {active_rows:,}; its
sample of frozen rows is 2,048 scaled as the vocabulary is. The text has {pairs:,} pairs, from English to {targets},
with {mean_source_tokens} source and {mean_target_tokens} target tokens in the mean.
"""
LADDER = """\
{rounds} interleaved rounds, all sides by turns in one process, medians; in each round {window} pairs are counted after
{warmup} step(s) that warm up. *Over the recipe* is the median of the ratios within each round. Sides *by length* draw
their own batches evenly from a whole pass, at least 4 a round; all others count the same pairs in the same order.
"""
PADDING = """\
Share of positions without a token, over one pass of {pairs:,} pairs, outside of attention. Inside it the packed forward
pads sentences of like length together; attention scores are less than 2 % of the work.
"""
TRUE_SIZE = """\
{millions:.0f} million weights, {rows:,} rows, fp32, the same 16 pairs a step; each side in a fresh process, {steps}
steps counted after one. *Peak*: of the whole process, as the kernel saw it; *at import*: what it held before the model.
"""
HEAD = """\
Forward and backward of {tokens:,} tokens over {rows:,} rows, fp32, each in a fresh process. *Extra*: the peak of all
tensors besides inputs, rows and their gradients. *On top*: what the process grew by at its peak, gradients included.
"""
LOSSES = """\
Model `{scale}`, 16 pairs a step, learning rate {learning_rate}, no dropout; nats per target token before each step. The
recipe at 4 x 4 reports four times its loss, and differentiates that. *Active* estimates the loss over all rows from a
sample, so it is near the others, not equal.
"""
VOCABULARY = """\
Model `{scale}`: {base_steps} steps with all rows from random weights make a base, which {steps} more tune with either
vocabulary. *Active* trains {trained_rows:,} of {rows:,} rows. All are judged over all rows.
"""


def text(results: dict[str, Any]) -> str:
    """The whole report."""
    facts, parts = results["facts"], results["parts"]
    where = facts["device_name"] if facts["device"] == "cuda" else f"CPU, {facts['threads']} thread(s)"
    lines = [f"# Speed against Seq2SeqTrainer, {facts['date']}, {where}", "", *_introduction(facts, parts)]
    aims = table(["", "reach", "stretch", "measured", "by", "reached"], speed_targets.rows(facts, parts))
    lines += ["", "## What was aimed at", "", *aims]
    for name, write in WRITERS.items():
        if name in parts:
            lines += ["", *write(parts[name])]
    return "\n".join([*lines, "", "## Not measured", "", *_not_measured(facts, parts), ""])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def _introduction(facts: dict[str, Any], parts: Parts) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    unit = "CPU-second of the process" if facts["device"] == "cpu" else "second between two synchronisations"
    words = {"processor": facts["processor"], "versions": versions, "commit": facts["commit"], "unit": unit}
    lines = INTRODUCTION.format(**words).splitlines()
    if "ladder" in parts:
        scale = parts["ladder"]["scale"]
        more = {"millions": scale["weights"] / 1e6, "used_share": scale["used_rows"] / scale["rows"]}
        lines += ["", *MODEL.format(**scale | more | {"targets": ", ".join(scale["languages"])}).splitlines()]
    return lines


# --- the parts -----------------------------------------------------------------------


def _ladder(part: dict[str, Any]) -> list[str]:
    on_gpu = any(one["gpu_bytes"] for row in part["sides"] for one in row["rounds"])
    head = ["side", "pairs per step", "tokens/s", "over the recipe", "padding: target", "source", "all rounds"]
    head += ["peak GPU memory", "model TFLOP/s"] if on_gpu else []
    rows = [_side(row, on_gpu, len(head)) for row in part["sides"]]
    return ["## The ladder", "", *LADDER.format(**part).splitlines(), "", *table(head, rows), *_not_built(part)]


def _side(row: dict[str, Any], on_gpu: bool, width: int) -> list[Any]:
    """A side's line in the ladder."""
    if not row["rounds"]:
        return [row["name"], row["pairs_per_step"], row["failure"] or "not run", *[""] * (width - 3)]
    sums = {key: sum(one[key] for one in row["rounds"]) for key in row["rounds"][0]}
    target = 1 - sums["target_tokens"] / sums["target_positions"]
    source = 1 - sums["source_tokens"] / sums["source_positions"]
    raw = " ".join(f"{one['tokens_per_second']:.0f}" for one in row["rounds"])
    ratio = f"{row['ratio']:.2f}x" if row.get("ratio") else ""
    cells = [row["name"], row["pairs_per_step"], f"{row['median']:,.0f}", ratio, f"{target:.1%}", f"{source:.1%}", raw]
    if on_gpu:
        gigabytes = max(one["gpu_bytes"] for one in row["rounds"]) / 1e9
        cells += [f"{gigabytes:.1f} GB", f"{sums['model_flops'] / sums['wall_seconds'] / 1e12:.1f}"]
    return cells


def _not_built(part: dict[str, Any]) -> list[str]:
    missing = part.get("not_built")
    if not missing:
        return []
    named = missing if isinstance(missing, list) else [f"{name} ({', '.join(why)})" for name, why in missing.items()]
    return ["", f"Not built yet, so not run: {'; '.join(named)}."]


def _padding(part: dict[str, Any]) -> list[str]:
    rows = [[name, f"{one['target']:.1%}", f"{one['source']:.1%}"] for name, one in part["sides"].items()]
    words = PADDING.format(**part).splitlines()
    head = ["## Padding", "", *words, ""]
    return [*head, *table(["side", "target", "source"], rows)]


def _true_size(part: dict[str, Any]) -> list[str]:
    rows: list[list[Any]] = []
    for name, rounds in part["sides"].items():
        good = [one for one in rounds if "failure" not in one]
        if not good:
            rows.append([name, rounds[-1]["failure"], "", "", "", "", ""])
            continue
        ratio = part["ratios"].get(name, {"speed": 0, "memory": 0})
        seconds = " ".join(f"{one['cpu_seconds'] / part['steps']:.1f}" for one in good)
        peaks = " ".join(f"{max(one['peak_bytes'], one['gpu_bytes']) / 1e9:.2f}" for one in good)
        speed, at_import = median(good, "tokens_per_second"), (median(good, "imports_bytes") or 0) / 1e9
        row = [name, f"{speed:.1f}", seconds, f"{ratio['speed']:.2f}x", peaks, f"{ratio['memory']:.2f}x"]
        rows.append([*row, f"{at_import:.2f}"])
    head = ["side", "tokens/s", "CPU-seconds a step", "speed over the recipe", "peak, GB", "memory over the recipe"]
    words = TRUE_SIZE.format(**part, millions=part["weights"] / 1e6).splitlines()
    title = "## A step at the true dimensions of the 600M"
    return [title, "", *words, "", *table([*head, "at import, GB"], rows), *_not_built(part)]


def _head(part: dict[str, Any]) -> list[str]:
    rows: list[list[Any]] = []
    for name, rounds in part["sides"].items():
        if (extra := median(rounds, "extra_bytes")) is None:
            rows.append([name, rounds[-1]["failure"], "", ""])
            continue
        on_top, seconds = median(rounds, "with_gradients_bytes") or 0, median(rounds, "seconds")
        rows.append([name, f"{extra / 1e6:,.0f} MB", f"{on_top / 1e6:,.0f} MB", f"{seconds:.1f}"])
    lines = table(["head", "extra", "on top", "seconds"], rows)
    return ["## The loss head alone", "", *HEAD.format(**part).splitlines(), "", *lines, *_not_built(part)]


def _losses(part: dict[str, Any]) -> list[str]:
    shown = sorted({1, *range(10, part["steps"] + 1, 10), part["steps"]})
    rows = [[name, *(f"{curve[step - 1]:.4f}" for step in shown)] for name, curve in part["curves"].items()]
    far = "; ".join(f"{name} {value:.1e}" for name, value in part["largest_relative_difference"].items())
    lines = ["## Equal loss at equal steps", "", *LOSSES.format(**part).splitlines(), ""]
    lines += table(["step", *map(str, shown)], rows)
    return [*lines, "", f"Largest relative difference from the Trainer at 1 x 16 over all steps: {far}."]


def _vocabulary(part: dict[str, Any]) -> list[str]:
    rows = [
        [name, run["seed"], f"{run['dev_nats']:.4f}", f"{run['mass_outside']:.3%}"]
        for name, runs in part["runs"].items()
        for run in runs
    ]
    lines = table(["vocabulary", "seed", "dev loss, nats per token", "mass outside the active rows"], rows)
    title = "## Active vocabulary against the full one"
    return [title, "", *VOCABULARY.format(**part).splitlines(), "", *lines, *_not_built(part)]


def _not_measured(facts: dict[str, Any], parts: Parts) -> list[str]:
    lines: list[str] = []
    if facts["device"] == "cpu":
        lines += ["- A GPU: no figure here says anything about one. `--device cuda --model 600m` measures one."]
    lines += [f"- The part `{name}` was not run." for name in WRITERS if name not in parts]
    lines += ["- Real NLLB weights, and whole runs: all steps here are of models with random weights."]
    return [*lines, "- Saving: see `bench/saves.py`."]


WRITERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "ladder": _ladder,
    "padding": _padding,
    "600m": _true_size,
    "head": _head,
    "losses": _losses,
    "vocabulary": _vocabulary,
}
