"""What training does, as one checked dataclass."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import flag

DEVICES = ("auto", "cpu", "cuda", "mps")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear", "wsd", "inverse-sqrt")
PARALLEL = ("auto", "ddp", "fsdp")
BACKENDS = ("toolkit", "huggingface")
DTYPES = ("auto", "float32", "bfloat16", "float16")

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "a name"),
    "bool": ((bool,), "true or false"),
}


@dataclass(frozen=True)
class TrainConfig:
    """Options of training; the model's own are in its configuration.

    Attributes:
        batch_size: sequences in a batch, over all processes.
        max_steps: optimizer steps; None with `max_time`: as many as fit.
        max_time: seconds of training; None: no limit. The schedule follows whichever of the two
            limits is nearer, so the learning rate reaches its end in time.
        optimizer: "adamw", or "muon": Muon for the hidden matrices, AdamW for the rest.
        learning_rate: the highest, reached after the warm-up; with "muon", of the matrices.
        adam_learning_rate: with "muon", of all else; None: a fifth of `learning_rate`.
        momentum: Muon's.
        schedule: how the learning rate falls after the warm-up: "cosine", "linear", "wsd" (it
            stays for the first 80% and then falls linearly) or "inverse-sqrt" (as one over the
            root of the step).
        min_lr_ratio: the lowest at the end, as a share of the highest.
        warmup_steps: steps of linear warm-up.
        weight_decay: of matrices; norms, biases and embeddings have none.
        beta1, beta2: AdamW's.
        layer_decay: how much smaller the learning rate is from a layer to the one before it
            (`layer_rates.py`); 1: the same for all.
        label_smoothing: the share of each target that is spread over the vocabulary
            (`losses.py`), in training alone; 0: none.
        ema: decay of the moving average of the weights (`ema.py`), which is then what is
            evaluated, saved and sampled from; 0: none.
        grad_clip: the largest norm of all gradients together; 0: no limit.
        grad_accumulation: batches whose mean gradient makes one step: the gradient of one batch
            as large as all of them.
        gradient_checkpointing: compute a block's activations again in the backward pass instead
            of keeping them: less memory, about a third more time.
        eval_every: steps between evaluations of the whole validation part.
        sample_every: steps between samples; 0: none.
        checkpoint_every: steps between checkpoints; 0: only at the end.
        early_stop: stop after so many evaluations without a better loss; 0: never; None: after
            10, once overfitting was noticed (`progress.py`).
        track_internals: steps between snapshots of what the model is like inside
            (`toolkit.internals`); 0: none.
        track_text: the text that they are of; "": the first tokens of the validation part. Of
            pairs: a source, or "SOURCE => TARGET"; "": the first held-out pair.
        log_every: steps between lines in metrics.jsonl.
        seed: of weights, batches and dropout.
        device: "auto" takes what there is: cuda, else mps, else cpu.
        dtype: of the computation; weights are float32. "auto": bfloat16 on cuda, else float32, and
            Muon's own in bfloat16 where the device computes it fast.
        tf32: let matrix products of float32 on cuda round their factors to 10 bits, which is
            several times faster; other devices have no such thing.
        compile: make one program of each step with torch.compile, which takes seconds to minutes
            first; None: where it pays (`compiling.py`).
        backend: what trains: "toolkit", or "huggingface": the same model in transformers' class, by
            its Trainer (`huggingface.py`).
        parallel: how torchrun's processes share the work (`distributed.py`): "ddp" or "fsdp";
            "auto" is "ddp" under torchrun, and one process alone otherwise.
    """

    batch_size: int = 32
    max_steps: int | None = 1000
    max_time: float | None = None
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    adam_learning_rate: float | None = None
    momentum: float = 0.9
    schedule: str = "cosine"
    min_lr_ratio: float = 0.1
    warmup_steps: int = 50
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    grad_clip: float = 1.0
    grad_accumulation: int = 1
    gradient_checkpointing: bool = False
    eval_every: int = 200
    sample_every: int = 0
    checkpoint_every: int = 500
    early_stop: int | None = None
    track_internals: int = 0
    track_text: str = ""
    log_every: int = 10
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    tf32: bool = True
    compile: bool | None = None
    backend: str = "toolkit"
    parallel: str = "auto"

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            self._check_type(option.name, str(option.type))
        for field in ("batch_size", "grad_accumulation", "eval_every", "log_every"):
            self._check(field, getattr(self, field) >= 1, "must be at least 1")
        for field in ("sample_every", "checkpoint_every", "warmup_steps", "track_internals"):
            self._check(field, getattr(self, field) >= 0, "must not be negative")
        for field in ("learning_rate", "weight_decay", "grad_clip"):
            self._check(field, math.isfinite(getattr(self, field)), "must be a finite number")
        self._check("learning_rate", self.learning_rate > 0, "must be above 0")
        if self.adam_learning_rate is not None:
            self._check("adam_learning_rate", self.adam_learning_rate > 0, "must be above 0")
        self._check("momentum", 0 <= self.momentum < 1, "must be at least 0 and below 1")
        self._check("weight_decay", self.weight_decay >= 0, "must not be negative")
        self._check("grad_clip", self.grad_clip >= 0, "must not be negative")
        self._check("min_lr_ratio", 0 <= self.min_lr_ratio <= 1, "must be from 0 to 1")
        self._check("layer_decay", 0 < self.layer_decay <= 1, "must be above 0 and at most 1")
        for field in ("label_smoothing", "ema"):
            self._check(field, 0 <= getattr(self, field) < 1, "must be at least 0 and below 1")
        if self.early_stop is not None:
            self._check("early_stop", self.early_stop >= 0, "must not be negative")
        self._check("seed", 0 <= self.seed < 2**63, "must be at least 0 and below 2^63")
        for field in ("beta1", "beta2"):
            self._check(field, 0 <= getattr(self, field) < 1, "must be at least 0 and below 1")
        if self.max_steps is not None:
            self._check("max_steps", self.max_steps >= 1, "must be at least 1")
        if self.max_time is not None:
            self._check("max_time", self.max_time > 0, "must be above 0 seconds")
        if self.track_text and not self.track_internals:
            raise UsageError("--track-text needs --track-internals N: every how many steps.")
        if self.max_steps is None and self.max_time is None:
            raise UsageError("Training needs an end: give --max-steps or --max-time.")
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if self.device not in DEVICES and not self.device.startswith("cuda:"):
            raise UnknownNameError("device", self.device, DEVICES)
        if self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        if self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)
        if self.parallel not in PARALLEL:
            raise UnknownNameError("parallel mode", self.parallel, PARALLEL)

    def _check_type(self, field: str, annotation: str) -> None:
        value = getattr(self, field)
        if value is None and "None" in annotation:
            return
        kind = annotation.removesuffix(" | None")
        accepted, wanted = _KINDS[kind]
        # Python's True is a whole number, too.
        if not isinstance(value, accepted) or isinstance(value, bool) != (kind == "bool"):
            raise UsageError(f"{flag(field)} {value!r} must be {wanted}")

    def _check(self, field: str, good: bool, message: str) -> None:
        if not good:
            raise UsageError(f"{flag(field)} {getattr(self, field)} {message}")
