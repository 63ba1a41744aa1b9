"""The options that decide what is learned: data, model, training."""

from typing import Annotated, Literal

from pydantic import Field

from dragoman.config.fields import MAY_CHANGE, OF_SESSION, FrozenModel

Form = Literal["nfc", "nfkc", "nllb"]
"""A way to write text; `data/normalization.py` says what each means."""

DEFAULT_MODEL = "facebook/nllb-200-distilled-600M"


class DataConfig(FrozenModel):
    """Which pairs are learned."""

    language_pairs: list[str] = []
    """Directions to learn, as SOURCE-TARGET: `en-fr en-de`, `eng_Latn-fra_Latn`; `en--fr` is both ways."""

    data: list[str] = ["Helsinki-NLP/opus-100"]
    """Where the pairs are: files (TSV, CSV, JSONL, Parquet, Arrow, TMX, XLIFF, PO; two in Moses format: `x.en x.fr`), a
    folder of gettext catalogues, `gettext:PACKAGE,PACKAGE` (catalogues of installed Python packages), or data sets on
    the Hub, `USER/NAME` or `USER/NAME:SPLIT@REVISION`; each for all pairs or as `en-fr=FILE` for one."""

    replay: list[str] = []
    """Pairs to rehearse against forgetting, as SOURCE:SHARE: an entry as for --data, such as `de-en=general.tsv`, in
    these or other directions, and its share of all pairs of an epoch: `de-en=general.tsv:0.1`."""

    held_out: list[str] = []
    """Test sets that stand apart, as entries for --data, such as `Helsinki-NLP/opus-100:test`: no pair is trained on of
    which a side is a text of theirs, whatever its case, width and direction."""

    new_language: list[str] = []
    """Languages to teach that NLLB does not know: `tyv_Cyrl`, or with its relatives `tyv_Cyrl=kaz_Cyrl,kir_Cyrl`."""

    like: list[str] = []
    """Related languages that the model knows, from which --new-language begins: `kaz_Cyrl,kir_Cyrl`."""

    max_samples: Annotated[int, Field(ge=1)] | None = None
    """Train on at most this many pairs per direction, drawn with the seed from the whole source."""

    dev_percent: Annotated[float, Field(ge=0, le=40)] = 2.0
    """Per cent of the source sentences held out to choose the best checkpoint."""

    test_percent: Annotated[float, Field(ge=0, le=40)] = 2.0
    """Per cent of the source sentences held out for `dragoman evaluate`; never seen in training."""

    min_chars: Annotated[int, Field(ge=1)] = 1
    """Drop pairs with a side shorter than this, in characters."""

    max_chars: Annotated[int, Field(ge=1)] = 1050
    """Drop pairs with a side longer than this, in characters."""

    max_length_ratio: Annotated[float, Field(ge=1)] = 9.0
    """Drop pairs whose longer side has more than this many times the characters of the shorter."""

    max_tokens: Annotated[int, Field(ge=8, le=1024)] = 256
    """Drop pairs with a side of more tokens than this, language code and `</s>` included."""

    normalize: Form = "nfc"
    """How text is written before the tokenizer sees it: composed characters; also one for all that mean the same; or
    as NLLB-200's own training text, with Moses's punctuation. Recorded with the model, for translating as well."""

    normalize_target: Form | None = None
    """The same for the target side, where it differs."""

    min_script_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    """Drop pairs with a side of whose letters fewer than this share, in per cent, are in the script of its language;
    0: not judged."""

    max_repeats: Annotated[int, Field(ge=0)] = 5
    """Drop pairs of which one side says the same more than this many times in a row; 0: not judged."""

    near_duplicates: Literal["keep", "drop"] = "keep"
    """Whether to drop pairs that differ from an earlier one by digits, punctuation and case alone."""

    langid: bool = False
    """Drop pairs with a side that is surely in another language (needs the extra `langid`)."""

    langid_min_chars: Annotated[int, Field(ge=20)] = 40
    """Identify the language of sides from this length on, in characters."""

    inline_tags: Literal["strip", "keep"] = "strip"
    """Tags in segments of TMX and XLIFF: leave them out, or keep them as text, such as `<g id="1">OK</g>`."""

    on_bad_rows: Literal["fail", "skip"] = "fail"
    """What to do with a row that cannot be read: stop, or skip it and write it to rejected.tsv."""

    prepare_processes: Annotated[int | None, Field(ge=1), OF_SESSION] = None
    """Prepare the data in at most this many processes; left out: one for each core. It changes nothing but the time."""

    @property
    def new_codes(self) -> tuple[str, ...]:
        """The codes of --new-language."""
        return tuple(text.partition("=")[0] for text in self.new_language)


class ModelConfig(FrozenModel):
    """What is tuned."""

    model: str = DEFAULT_MODEL
    """NLLB checkpoint: a folder, a Hub id, or `scratch:tiny` / `scratch:small` (built from the data)."""

    revision: str | None = None
    """Revision (commit, branch or tag) of the model on the Hub."""

    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Override every dropout of the model's configuration."""

    adapter: Literal["none", "lora"] = "none"
    """What is trained: the model itself, or thin matrices beside its frozen ones, which are added to it when it is
    saved (LoRA; needs the extra `lora`)."""

    lora_rank: Annotated[int, Field(ge=1)] = 16
    """Width of the thin matrices."""

    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """What the adapters give is multiplied by this over --lora-rank; left out: twice the rank."""

    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of what the adapters read."""


class TrainingConfig(FrozenModel):
    """How it is tuned."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training pairs; ignored when --max-steps is given. With a mix a pass has as many pairs as there
    are to learn, some perhaps twice and others not, and the rehearsed ones on top."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Total optimizer steps, instead of --epochs."""

    mix: list[str] = []
    """Shares of the directions in an epoch, as PAIR=WEIGHT: `en-fr=2 en-de=1`; left out: as many as there are."""

    mix_temperature: Annotated[float, Field(ge=1)] = 1.0
    """Draw a direction with n pairs in proportion to n to the power of 1/this: 1 takes every pair once, 5 brings small
    directions well forward, the greatest values make all alike."""

    batch_size: Annotated[int, Field(ge=1)] = 4
    """Times --gradient-accumulation: the pairs per step. How many are computed at once, memory decides."""

    gradient_accumulation: Annotated[int, Field(ge=1)] = 4
    """Times --batch-size: the pairs per step."""

    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Target tokens per step, on average, instead of --batch-size times --gradient-accumulation."""

    microbatch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most source and target tokens that are computed at once; left out: as many as memory holds."""

    forward: Literal["packed", "reference"] = "packed"
    """Forward pass: without padding, or transformers' own, which gives the same numbers more slowly."""

    static_shapes: bool = False
    """Pad small microbatches to one of few sizes, so that a GPU repeats each as one CUDA graph instead of some thousand
    launches; needs --forward packed."""

    vocabulary: Literal["full", "active"] = "active"
    """Rows of the embedding that are trained: all, or those that the data can use, beside a sample of the others."""

    gradient_checkpointing: Annotated[Literal["auto", "on", "off"], MAY_CHANGE] = "auto"
    """Compute every layer a second time instead of keeping what is inside; auto: when memory is short."""

    optimizer: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    """How weights follow their gradient: with two moments in float32, with both in 8 bits (needs the extra `8bit`), or
    with one of rows and columns only, whose learning rate counts otherwise: 1e-3 is usual."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    """Peak learning rate; Adafactor multiplies it by the size of the weights."""

    schedule: Literal["linear", "cosine", "inverse-sqrt", "constant"] = "linear"
    """Learning rate after the warm-up."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps of linear warm-up; left out: 6 % of the steps, at most 500."""

    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Decoupled weight decay, on matrices only."""

    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient of a step; longer ones are scaled down to it."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target probability that is spread over the whole vocabulary."""

    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 from compute capability 8.0, fp16 from 7.0, else fp32. fp64 is for
    proofs: weights, moments and checkpoints have it too."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU when there is one."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; left out: torch's own choice. Bit-identical resume needs the same number."""

    deterministic: bool = False
    """Use only deterministic kernels, so that a resumed GPU run is bit-identical (always on on a CPU)."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of sampling, order, dropout and scratch weights."""

    max_bad_steps: Annotated[int, Field(ge=1)] = 5
    """Consecutive non-finite steps that are skipped before the run rolls back to its last checkpoint."""

    max_hours: Annotated[float | None, Field(gt=0), OF_SESSION] = None
    """Stop after this many hours of this session, with a checkpoint saved in time, and exit 75."""
