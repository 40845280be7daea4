"""`toolkit train`: a run folder from a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.commands.options import (
    MODEL,
    PARTS,
    TRAINING,
    Config,
    CorpusSpec,
    Debug,
    Device,
    Encoding,
    Errors,
    Json,
    MaxMemory,
    Quiet,
    TextField,
    TokenizerOption,
    TokenizerSpec,
    Unknown,
    Verbose,
    panel_option,
    tokenizer_options,
    was_given,
)
from toolkit.errors import UsageError

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit train[/cyan] · "
    "[cyan]toolkit train -t char -c my.txt --size nano[/cyan] · "
    "[cyan]toolkit train --resume[/cyan]"
)
def train(
    tokenizer: TokenizerSpec = "bpe",
    corpus: CorpusSpec = "shakespeare",
    model: Annotated[
        str,
        panel_option(
            PARTS,
            metavar="NAME",
            help="bigram, average-loop, average-matmul, average-softmax, single-head or gpt.",
        ),
    ] = "gpt",
    preset: Annotated[
        str | None, panel_option(PARTS, metavar="modern|gpt2", help="gpt's parts; default modern.")
    ] = None,
    size: Annotated[
        str | None,
        panel_option(PARTS, metavar="nano|micro|mini|small|medium", help="Default: by the device."),
    ] = None,
    out: Annotated[
        Path | None, panel_option(PARTS, help="The run folder; default runs/NAME-N.")
    ] = None,
    resume: Annotated[
        bool, panel_option(PARTS, "--resume", help="Continue the newest run, or the one at --out.")
    ] = False,
    config: Config = None,
    n_layer: Annotated[int | None, panel_option(MODEL, help="Blocks.")] = None,
    n_head: Annotated[int | None, panel_option(MODEL, help="Attention heads.")] = None,
    n_kv_head: Annotated[int | None, panel_option(MODEL, help="Key/value heads.")] = None,
    n_embd: Annotated[int | None, panel_option(MODEL, help="Channels.")] = None,
    head_dim: Annotated[int | None, panel_option(MODEL, help="Channels of a head.")] = None,
    position: Annotated[
        str | None,
        panel_option(
            MODEL,
            metavar="none|learned|rotary",
            help="How positions are told apart; gpt: learned or rotary, others: none or learned.",
        ),
    ] = None,
    block_size: Annotated[int | None, panel_option(MODEL, help="Context in tokens.")] = None,
    dropout: Annotated[float | None, panel_option(MODEL, help="Probability, 0 to 1.")] = None,
    speedrun: Annotated[
        bool,
        panel_option(
            PARTS,
            "--speedrun",
            help="The lowest loss in --max-time seconds of everything; 15 if it is not given.",
        ),
    ] = False,
    batch_size: Annotated[int | None, panel_option(TRAINING, help="Sequences a step.")] = None,
    max_steps: Annotated[int | None, panel_option(TRAINING, help="Optimizer steps.")] = None,
    max_time: Annotated[float | None, panel_option(TRAINING, help="Seconds of training.")] = None,
    optimizer: Annotated[
        str | None, panel_option(TRAINING, metavar="adamw|muon", help="Default: adamw.")
    ] = None,
    learning_rate: Annotated[float | None, panel_option(TRAINING, help="At its peak.")] = None,
    adam_learning_rate: Annotated[
        float | None, panel_option(TRAINING, help="muon: of embeddings, head and norms.")
    ] = None,
    momentum: Annotated[float | None, panel_option(TRAINING, help="Of muon.")] = None,
    schedule: Annotated[
        str | None, panel_option(TRAINING, metavar="cosine|linear|wsd", help="Default: cosine.")
    ] = None,
    warmup_steps: Annotated[int | None, panel_option(TRAINING, help="Of linear warm-up.")] = None,
    weight_decay: Annotated[float | None, panel_option(TRAINING, help="Of the matrices.")] = None,
    layer_decay: Annotated[
        float | None, panel_option(TRAINING, help="Learning rate of a layer over the next one's.")
    ] = None,
    label_smoothing: Annotated[
        float | None, panel_option(TRAINING, help="Share of each target that all tokens get.")
    ] = None,
    ema: Annotated[
        float | None, panel_option(TRAINING, help="Average the weights, with this decay: 0.999.")
    ] = None,
    grad_clip: Annotated[
        float | None, panel_option(TRAINING, help="Largest gradient norm.")
    ] = None,
    grad_accumulation: Annotated[
        int | None, panel_option(TRAINING, help="Batches whose gradients make one step.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        panel_option(
            TRAINING,
            "--gradient-checkpointing",
            help="Compute activations twice: less memory, more time.",
        ),
    ] = None,
    eval_every: Annotated[
        int | None, panel_option(TRAINING, help="Steps between evaluations.")
    ] = None,
    sample_every: Annotated[
        int | None, panel_option(TRAINING, help="Steps between samples.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, panel_option(TRAINING, help="Steps between checkpoints.")
    ] = None,
    early_stop: Annotated[
        int | None,
        panel_option(
            TRAINING,
            help="Stop after N evaluations without a better loss (0: never); default 10, "
            "once it overfits.",
        ),
    ] = None,
    held_out: Annotated[float, panel_option(PARTS, help="Share of the text to validate on.")] = 0.1,
    seed: Annotated[int | None, panel_option(TRAINING, help="Same seed, same result.")] = None,
    device: Device = "auto",
    dtype: Annotated[
        str | None,
        panel_option(TRAINING, metavar="auto|float32|bfloat16|float16", help="Of the computation."),
    ] = None,
    tf32: Annotated[
        bool | None,
        panel_option(TRAINING, help="Of float32 on cuda: faster products. Default: on."),
    ] = None,
    compile: Annotated[
        bool | None, panel_option(TRAINING, help="torch.compile. Default: where it pays.")
    ] = None,
    max_memory: MaxMemory = None,
    option: TokenizerOption = None,
    unknown: Unknown = None,
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # Typer passes it
) -> None:
    """Train a model on a text and write a run folder.

    Ctrl-C stops and saves; `toolkit train --resume` continues where it stopped, to the bit.
    """
    from toolkit import display
    from toolkit.corpora import load_corpus
    from toolkit.pipeline import TrainingSession
    from toolkit.speedrun import DEFAULT_BUDGET, process_age
    from toolkit.tokenizers.registry import class_of_spec

    options = _given_fields(context)
    budget: float | None = None
    if speedrun:
        # What --max-time bounds here is everything, not the training alone.
        budget = DEFAULT_BUDGET if max_time is None else max_time
        options.pop("max_time", None)
    show = display.training_display(as_json=json, quiet=quiet, verbose=verbose)
    if resume:
        _refuse_when_resuming(context)
        if device != "auto":
            options["device"] = device
        session = TrainingSession.resume(out, on_stage=show.stage, **options)
    else:
        class_of_spec(tokenizer)  # a misspelt name is refused before a corpus is fetched
        with show.preparing() as on_progress:
            text = load_corpus(
                corpus,
                encoding=encoding,
                errors=errors,
                text_field=text_field,
                on_progress=lambda done, total: on_progress("reading", done, total),
            )
            session = TrainingSession.start(
                text,
                tokenizer,
                model=model,
                preset=preset,
                size=size,
                out=out,
                held_out=held_out,
                speedrun=budget,
                spent=process_age(),
                tokenizer_options=tokenizer_options(unknown, max_memory, option),
                on_stage=show.stage,
                on_progress=on_progress,
                device=device,
                **options,
            )
    show.run(session)
    if session.run.info.status == "interrupted":
        raise typer.Exit(130)


def _given_fields(context: typer.Context) -> dict[str, Any]:
    """What was given of the model's and the training's fields: all under these two headings."""
    fields = [
        parameter.name
        for parameter in context.command.params
        if getattr(parameter, "rich_help_panel", None) in (MODEL, TRAINING)
    ]
    values = {str(name): context.params[str(name)] for name in fields}
    return {name: value for name, value in values.items() if value is not None}


def _refuse_when_resuming(context: typer.Context) -> None:
    parts = ("tokenizer", "corpus", "model", "preset", "size", "speedrun")
    for name in (*parts, "held_out", "unknown", "encoding", "max_memory", "option"):
        if was_given(context, name):
            option = "--tokenizer-option" if name == "option" else "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} cannot be given with --resume: a run keeps what it was started with. "
                "Leave it out, or start a new run without --resume."
            )
