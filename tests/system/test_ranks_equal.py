"""Several ranks learn what one process learns, and write what it writes: real processes, over gloo.

In float64 without dropout nothing is left that may differ but the order of sums. With
dropout every microbatch draws from its place in the step, and ranks cut steps otherwise.

Not here: `--offload`, whose policy of torch wants an accelerator even where the mesh is a CPU's.

One test starts one group of processes and lets it play many cases: `tests/support/crowd.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support import crowd, tiny
from tests.support.crowd import Case, Report

NEW = "qaa_Latn"
CIPHER = str.maketrans({"e": "ė", "o": "ө", "u": "ꙋ"})
WITHOUT_GRADIENT = "k_proj.bias"
"""Adds the same to all scores of a query, which softmax takes away: its gradient is rounding, and Adam makes steps of
the usual size of it, each rank count its own."""
EXACT, SINGLE, HALF = 1e-12, 1e-6, 1e-3
"""Largest relative difference of losses: sums in another order in float64, in float32 over few small steps, and
products of bfloat16, whose 8 bits round a different sum to another number now and then."""


def case(folder: Path, parallel: str, *, rows: int = 60, **options: Any) -> Case:
    """A run on `rows` toy pairs, prepared in `folder` if it is not yet."""
    own = {name: options.pop(name) for name in ("kind", "steps", "limit", "twice") if name in options}
    settings = {"dropout": 0.0, "threads": 1, "precision": "fp64", "parallel": parallel, "batch_size": 8} | options
    made = tiny.make(folder, rows, **settings)
    flat = {name: value for name, value in made.config.flat().items() if value is not None}
    first_new = made.made.vocabulary.first_new if made.config.data.new_language else None
    return Case(flat, str(made.made.base), str(made.made.corpus.folder), parallel, first_new=first_new, **own)


def new_language(folder: Path, base: str) -> dict[str, Any]:
    """Options that teach a model of the toy languages another one, in letters that it lacks."""
    plain = tiny.make_pairs(folder / "plain.tsv", n=60, seed=1).read_text().splitlines()
    rows = [line.split("\t") for line in plain]
    path = folder / "new.tsv"
    path.write_text("".join(f"{source}\t{target.translate(CIPHER)}\n" for source, target in rows))
    pairs = [f"en-{NEW}", f"{NEW}-en"]
    beside = {"language_pairs": pairs, "data": [f"en-qaa={path}"], "new_language": [NEW], "like": ["fra_Latn"]}
    return beside | {"model": base, "adapter": "lora", "lora_rank": 4}


NEW_ROWS = "lora_new_rows"


def cases_of(folder: Path, parallel: str) -> dict[str, Case]:
    """Every way to train that ranks could get wrong."""
    plain = case(folder / "plain", parallel, steps=50)
    found = {
        "plain": plain,
        "parts": replace(plain, steps=4, limit=30),
        "twice": replace(plain, steps=4, limit=30, twice=True),
        "short": case(
            folder / "short", parallel, rows=17, language_pairs=["en-fr"], max_steps=None, epochs=1.0, steps=3
        ),
        "new": case(folder / "new", parallel, steps=4, limit=30, **new_language(folder, plain.base)),
    }
    for name, options in {
        "full": {"vocabulary": "full"},
        "unsmoothed": {"label_smoothing": 0.0},
        "lora": {"adapter": "lora", "learning_rate": 1e-2},
        "reference": {"forward": "reference"},
        "float32": {"precision": "fp32", "learning_rate": 1e-4},
        "bfloat16": {"precision": "bf16", "learning_rate": 1e-4},
    }.items():
        found[name] = replace(plain, options=plain.options | options, steps=20 if name == "float32" else 4)
    found["saves"] = replace(plain, kind="saves", steps=2)
    found["lora saves"] = replace(found["lora"], kind="saves", steps=2)
    return {f"{parallel} {name}": each for name, each in found.items()}


def largest(one: list[float], other: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True))


def wrong(name: str, report: Report) -> list[str]:
    """What is not as one process makes it."""
    bound = SINGLE if "float32" in name else HALF if "bfloat16" in name else EXACT
    found = [] if largest(report.alone, report.together) <= bound else ["losses"]
    if "saves" in name:
        return found + [what for what, holds in report.facts.items() if not holds]
    if not report.same_pairs:
        found.append("pairs")
    if bound == EXACT:
        found += ["norms"] * (largest(report.norms_alone, report.norms_together) > EXACT)
        found += [each for each, far in report.differs.items() if far > EXACT and WITHOUT_GRADIENT not in each]
    return found


def test_two_ranks_learn_and_write_what_one_process_does(tmp_path: Path) -> None:
    cases = cases_of(tmp_path, "ddp") | cases_of(tmp_path, "fsdp")
    reports = crowd.played(tmp_path / "crowd", 2, cases)
    assert reports.keys() == cases.keys()
    assert {name: bad for name, report in reports.items() if (bad := wrong(name, report))} == {}
    for parallel in ("ddp", "fsdp"):
        assert_ranks_shared(parallel, reports)


def assert_ranks_shared(parallel: str, reports: Mapping[str, Report]) -> None:
    """The cases are what they are called, or they would prove nothing."""
    assert len(reports[f"{parallel} plain"].alone) == 50
    assert reports[f"{parallel} plain"].passes == [[1] * 50] * 2
    assert all(min(passes) > 1 for passes in reports[f"{parallel} parts"].passes)
    assert [passes[-1] for passes in reports[f"{parallel} short"].passes] == [1, 0]
    assert any(NEW_ROWS in name for name in reports[f"{parallel} new"].differs)
    assert not any("lora" in name for name in reports[f"{parallel} plain"].differs)
    assert any("lora_B" in name for name in reports[f"{parallel} lora"].differs)


def test_a_resume_with_the_same_ranks_is_bit_identical(tmp_path: Path) -> None:
    """With three, where a sum depends on the order in which it is made; with dropout, in float32."""
    made = {
        parallel: case(
            tmp_path / "run", parallel, kind="resume", steps=6, dropout=0.2, precision="fp32", vocabulary="full"
        )
        for parallel in ("ddp", "fsdp")
    }
    for name, report in crowd.played(tmp_path / "crowd", 3, made).items():
        assert report.alone == report.together, name
        assert report.facts == {"same bytes": True}, name
