"""The memory model: parameters as torch counts them, peaks that follow from their parts, and what fits where."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from dragoman.config import from_flat
from dragoman.model import memory, resident
from dragoman.model.regime import Regime, regime_of
from dragoman.model.sizes import KNOWN, Sizes, of_config

SMALL = KNOWN["facebook/nllb-200-distilled-600M"]
HALF = Regime(precision="fp16")
TOKENS = (0, 1, 64, 300, 512, 1000, 4096, 50_000)
REGIMES = [
    Regime(),
    HALF,
    replace(HALF, vocabulary="active"),
    replace(HALF, optimizer="adamw8bit"),
    replace(HALF, optimizer="adafactor"),
    replace(HALF, adapter="lora"),
    replace(HALF, gradient_checkpointing=True),
    Regime(device="cpu"),
    Regime(device="cpu", precision="bf16", forward="reference"),
]
NAMES = ["fp32", "fp16", "active", "8 bit", "Adafactor", "LoRA", "checkpointing", "CPU", "CPU bf16 reference"]

regimes = pytest.mark.parametrize("regime", REGIMES, ids=NAMES)


@pytest.mark.parametrize(("name", "millions"), [("600M", 615), ("1.3B", 1371), ("3.3B", 3345)])
def test_the_models_have_the_parameters_that_are_published(name: str, millions: int) -> None:
    found = {round(sizes.num_parameters / 1e6) for model, sizes in KNOWN.items() if model.endswith(name)}
    assert found == {millions}


def test_full_training_in_float32_holds_sixteen_bytes_of_each_parameter() -> None:
    gib = [round(16 * sizes.num_parameters / 2**30, 1) for sizes in KNOWN.values()]
    assert gib == [9.2, 20.4, 20.4, 49.8]
    positions = 2 * 1026 * 4 * SMALL.width
    assert resident.fixed_bytes(SMALL, Regime()) == 16 * SMALL.num_parameters + positions


def test_a_configuration_gives_the_same_sizes() -> None:
    config = {
        "vocab_size": 256_206,
        "d_model": 1024,
        "encoder_layers": 12,
        "decoder_layers": 12,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
        "encoder_attention_heads": 16,
    }
    assert of_config(config) == SMALL


@regimes
def test_more_tokens_never_need_less(regime: Regime) -> None:
    needs = [memory.peak_bytes(SMALL, regime, tokens) for tokens in TOKENS]
    assert all(fewer <= more for fewer, more in pairwise(needs))
    assert needs[0] < needs[-1]
    assert needs[0] >= resident.fixed_bytes(SMALL, regime)


@regimes
def test_the_microbatch_is_the_largest_that_fits(regime: Regime) -> None:
    free = 24 << 30
    tokens = memory.microbatch_tokens(SMALL, regime, free)
    room = free * (1 - memory.SAFETY_SHARE)
    assert memory.peak_bytes(SMALL, regime, tokens) <= room < memory.peak_bytes(SMALL, regime, tokens + 1)


@regimes
def test_nothing_fits_where_the_fixed_part_does_not(regime: Regime) -> None:
    fixed = resident.fixed_bytes(SMALL, regime)
    assert memory.microbatch_tokens(SMALL, regime, 0) == 0
    assert memory.microbatch_tokens(SMALL, regime, fixed) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": "active"},
        {"optimizer": "adamw8bit"},
        {"optimizer": "adafactor"},
        {"adapter": "lora"},
        {"gradient_checkpointing": True},
        {"dropout": False},
        {"accumulates": False},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_should_save_memory_does(change: dict[str, object], device: str, precision: str) -> None:
    before = Regime(device=device, precision=precision)  # pyright: ignore[reportArgumentType]
    after = replace(before, **change)  # pyright: ignore[reportArgumentType]
    assert memory.peak_bytes(SMALL, after, 8192) < memory.peak_bytes(SMALL, before, 8192)


def test_half_precision_saves_activations_and_not_weights() -> None:
    assert resident.fixed_bytes(SMALL, HALF) == resident.fixed_bytes(SMALL, Regime())
    assert memory.token_bytes(SMALL, HALF) < 0.7 * memory.token_bytes(SMALL, Regime())


def test_an_active_vocabulary_larger_than_the_model_is_the_full_one() -> None:
    tiny = Sizes(2000, 128, 2, 2, 512, 512, 4)
    assert memory.peak_bytes(tiny, Regime(vocabulary="active"), 512) == memory.peak_bytes(tiny, Regime(), 512)


def test_layers_are_checkpointed_only_where_that_decides() -> None:
    eight_bit = replace(HALF, optimizer="adamw8bit")
    assert not memory.with_checkpointing(SMALL, HALF, 79 << 30).gradient_checkpointing
    assert not memory.with_checkpointing(KNOWN["facebook/nllb-200-3.3B"], HALF, 14 << 30).gradient_checkpointing
    assert memory.with_checkpointing(KNOWN["facebook/nllb-200-1.3B"], eight_bit, 21 << 30).gradient_checkpointing


def test_the_options_of_a_run_say_how_it_needs_memory() -> None:
    regime = regime_of(from_flat({"dropout": 0.0, "max_tokens": 32}), "cpu", "bf16")
    assert (regime.device, regime.precision, regime.dropout, regime.inner_dropout) == ("cpu", "bf16", False, False)
    assert regime.length == 32
    assert regime_of(from_flat({"dropout": 0.1}), "cuda", "fp16").inner_dropout
    usual = regime_of(from_flat({}), "cuda", "fp16")
    assert usual.dropout
    assert not usual.inner_dropout


MEASURED = Path(__file__).parents[2] / "bench/memory_cpu_2026-11-25.json"


def test_the_model_is_near_what_was_really_allocated() -> None:
    rows = json.loads(MEASURED.read_text("utf-8"))
    assert len(rows) > 80
    for row in rows:
        width, layers = row["width"], row["layers"]
        sizes = Sizes(row["vocabulary"], width, layers, layers, 4 * width, 4 * width, width // 64)
        assert sizes.num_parameters == row["parameters"]
        regime = Regime(
            device="cpu",
            precision=row["precision"],
            forward=row["forward"],
            gradient_checkpointing=row["checkpointing"],
            dropout=row["dropout"],
            length=32,
        )
        assert -0.1 < memory.peak_bytes(sizes, regime, row["tokens"]) / row["counted"] - 1 < 0.2, row


# --- several ranks -----------------------------------------------------------------------

LARGE = KNOWN["facebook/nllb-200-3.3B"]


def test_a_rank_that_shares_the_layers_holds_its_part_of_them_and_the_whole_embedding() -> None:
    alone, shared = HALF, HALF.on_ranks("fsdp", 8)
    cut = resident.divided_parameters(LARGE)
    assert resident.fixed_bytes(LARGE, alone) - resident.fixed_bytes(LARGE, shared) == 16 * (cut - cut // 8)
    assert resident.fixed_bytes(LARGE, shared) > 16 * LARGE.vocabulary * LARGE.width
    kept = resident.fixed_bytes(LARGE, HALF.on_ranks("fsdp", 8, offload=True))
    assert kept == resident.fixed_bytes(LARGE, alone) - 16 * cut
    assert resident.offloaded_bytes(LARGE, HALF.on_ranks("fsdp", 8, offload=True)) == 16 * cut // 8


def test_more_ranks_never_need_more_of_each() -> None:
    needs = [memory.peak_bytes(LARGE, HALF.on_ranks("fsdp", ranks), 512) for ranks in (2, 4, 8, 16, 64)]
    assert all(fewer > more for fewer, more in pairwise(needs))
    together = 2 * LARGE.largest_layer * 2
    assert needs[-1] > resident.fixed_bytes(LARGE, HALF.on_ranks("fsdp", 64)) + together


def test_the_largest_layer_and_all_norms_are_counted_as_the_whole_is() -> None:
    decoder = LARGE.largest_layer
    encoder = (resident.divided_parameters(LARGE) - LARGE.decoder_layers * decoder) / LARGE.encoder_layers
    assert decoder - encoder == 4 * (LARGE.width**2 + LARGE.width)  # the decoder's second attention


def test_ddp_needs_its_buckets_besides() -> None:
    layers = 4 * SMALL.layer_parameters
    one, two = (replace(HALF, vocabulary="active").on_ranks("ddp", ranks) for ranks in (1, 2))
    assert memory.peak_bytes(SMALL, two, 8192) - memory.peak_bytes(SMALL, one, 8192) == layers


def test_while_it_saves_the_first_rank_copies_its_part_and_brings_one_matrix() -> None:
    cut, shared = resident.divided_parameters(LARGE), HALF.on_ranks("fsdp", 4)
    whole = LARGE.num_parameters - cut
    assert resident.saving_bytes(LARGE, shared) == 12 * (whole + cut // 4) + 4 * LARGE.width * LARGE.decoder_inner
    assert resident.saving_bytes(LARGE, HALF) == 12 * LARGE.num_parameters


@pytest.mark.parametrize(
    ("gib", "options", "expected"),
    [
        (79, {}, "ddp"),
        (14, {}, "fsdp"),
        (14, {"parallel": "ddp"}, "ddp"),
        (79, {"parallel": "fsdp"}, "fsdp"),
        (14, {"optimizer": "adamw8bit"}, "ddp"),
        (21, {"adapter": "lora", "vocabulary": "active"}, "ddp"),
    ],
)
def test_every_rank_holds_the_whole_model_where_it_fits(gib: int, options: dict[str, object], expected: str) -> None:
    config = from_flat(options)
    regime = regime_of(config, "cuda", "bf16")
    shared, chosen = memory.on_ranks(config, LARGE, regime, 8, gib << 30)
    assert (chosen, shared.shards, shared.buckets) == (expected, 8 if expected == "fsdp" else 1, expected == "ddp")
    assert memory.on_ranks(config, LARGE, regime, 1, gib << 30)[0] == regime


def test_a_model_fits_whole_only_if_it_does_without_what_the_options_forbid() -> None:
    """Where layers may be computed twice, that counts; where they may not, it does not."""
    regime = regime_of(from_flat({}), "cuda", "bf16")
    sizes = KNOWN["facebook/nllb-200-1.3B"]

    def least(choice: str) -> int:
        config = from_flat({"gradient_checkpointing": choice, "max_tokens": 1024})
        return next(gib for gib in range(8, 80) if memory.on_ranks(config, sizes, regime, 2, gib << 30)[1] == "ddp")

    assert least("auto") < least("off")
