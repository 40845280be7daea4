"""`toolkit train`: a run folder from a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import (
    MODEL,
    PARTS,
    TRAINING,
    Config,
    CorpusSpec,
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
    given_fields,
    panel_option,
    refuse_of_texts,
    was_given,
)
from toolkit.errors import UsageError
from toolkit.tokenizer_options import tokenizer_options

if TYPE_CHECKING:
    from toolkit.corpora import Corpus

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit train[/cyan] · "
    "[cyan]toolkit train -t char -c my.txt --size nano[/cyan] · "
    "[cyan]toolkit train --init openai-community/gpt2 -c my.txt[/cyan] · "
    "[cyan]toolkit train --task reverse[/cyan] · "
    "[cyan]toolkit train --resume[/cyan]"
)
def train(
    context: typer.Context,
    tokenizer: TokenizerSpec = "bpe",
    corpus: CorpusSpec = "shakespeare",
    model: Annotated[
        str,
        panel_option(
            PARTS,
            metavar="NAME",
            help="bigram, average-loop, average-matmul, average-softmax, single-head or gpt; "
            "encoder-decoder for a --task.",
        ),
    ] = "gpt",
    task: Annotated[
        str | None,
        panel_option(
            PARTS,
            metavar="NAME|FILE",
            help="Pairs to learn, in place of a corpus: copy, reverse, sort, add or date (as in "
            "reverse:12, with a length), a .tsv file, or .jsonl with source and target.",
        ),
    ] = None,
    src_tokenizer: Annotated[
        str | None, panel_option(PARTS, metavar="SPEC", help="Of a task's sources alone.")
    ] = None,
    tgt_tokenizer: Annotated[
        str | None, panel_option(PARTS, metavar="SPEC", help="Of a task's targets alone.")
    ] = None,
    preset: Annotated[
        str | None, panel_option(PARTS, metavar="modern|gpt2", help="gpt's parts; default modern.")
    ] = None,
    init: Annotated[
        str | None,
        panel_option(
            PARTS,
            metavar="PATH|HUB_NAME|RUN",
            help="Start from these weights and their tokenizer: GPT-2, Llama, Qwen3, or a run "
            "(of pairs for a --task).",
        ),
    ] = None,
    size: Annotated[
        str | None,
        panel_option(
            PARTS, metavar="nano|micro|mini|small|medium|large|xl", help="Default: by the device."
        ),
    ] = None,
    out: Annotated[
        Path | None, panel_option(PARTS, help="The run folder; default runs/NAME-N.")
    ] = None,
    resume: Annotated[
        bool, panel_option(PARTS, "--resume", help="Continue the newest run, or the one at --out.")
    ] = False,
    config: Config = None,
    n_layer: Annotated[int | None, panel_option(MODEL, help="Blocks.")] = None,
    n_encoder_layer: Annotated[
        int | None, panel_option(MODEL, help="Blocks of an encoder; as many as of the decoder.")
    ] = None,
    n_head: Annotated[int | None, panel_option(MODEL, help="Attention heads.")] = None,
    n_kv_head: Annotated[
        int | None, panel_option(MODEL, help="Key/value heads; 1 is multi-query attention.")
    ] = None,
    n_embd: Annotated[int | None, panel_option(MODEL, help="Channels.")] = None,
    head_dim: Annotated[int | None, panel_option(MODEL, help="Channels of a head.")] = None,
    n_inner: Annotated[int | None, panel_option(MODEL, help="Hidden channels of the MLP.")] = None,
    block_size: Annotated[int | None, panel_option(MODEL, help="Context in tokens.")] = None,
    position: Annotated[
        str | None,
        panel_option(
            MODEL,
            metavar="none|learned|rotary|sinusoidal|alibi",
            help="How positions are told apart; the averages and single-head: none or learned.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        panel_option(MODEL, help="Positions that attention sees, its own too; 0: all before it."),
    ] = None,
    norm: Annotated[
        str | None, panel_option(MODEL, metavar="layernorm|rmsnorm", help="Which norm.")
    ] = None,
    norm_order: Annotated[
        str | None,
        panel_option(MODEL, metavar="pre|post", help="Before each part, or after its sum."),
    ] = None,
    qk_norm: Annotated[
        bool | None, panel_option(MODEL, help="Normalise queries and keys in each head.")
    ] = None,
    mlp: Annotated[
        str | None,
        panel_option(MODEL, metavar="gelu|relu2|swiglu|relu", help="What is between its matrices."),
    ] = None,
    bias: Annotated[
        bool | None, panel_option(MODEL, help="Of linear layers and layer norms.")
    ] = None,
    tie_embeddings: Annotated[
        bool | None, panel_option(MODEL, help="The head is the token embedding.")
    ] = None,
    dropout: Annotated[float | None, panel_option(MODEL, help="Probability, 0 to 1.")] = None,
    weight_init: Annotated[
        str | None, panel_option(MODEL, metavar="gpt2|zeros", help="How weights start.")
    ] = None,
    norm_eps: Annotated[
        float | None, panel_option(MODEL, help="Added to the variance under the root.")
    ] = None,
    rope_theta: Annotated[
        float | None, panel_option(MODEL, help="Base of the rotary frequencies.")
    ] = None,
    speedrun: Annotated[
        bool,
        panel_option(
            PARTS,
            "--speedrun",
            help="The lowest loss in --max-time seconds, from start to saved weights; default 15.",
        ),
    ] = False,
    find_lr: Annotated[
        bool,
        panel_option(
            PARTS,
            "--find-lr",
            help="Do not train: find a learning rate, in --max-steps steps; 100 if it is not "
            "given. Writes to --out or runs/find-lr-N.",
        ),
    ] = False,
    lr_range: Annotated[
        str | None,
        panel_option(PARTS, metavar="LOW,HIGH", help="With --find-lr; default 1e-6,10."),
    ] = None,
    track: Annotated[
        list[str] | None,
        panel_option(PARTS, metavar="tensorboard|wandb", help="Follow the training there too."),
    ] = None,
    batch_size: Annotated[int | None, panel_option(TRAINING, help="Sequences a step.")] = None,
    max_steps: Annotated[int | None, panel_option(TRAINING, help="Optimizer steps.")] = None,
    max_time: Annotated[float | None, panel_option(TRAINING, help="Seconds of training.")] = None,
    optimizer: Annotated[
        str | None, panel_option(TRAINING, metavar="adamw|muon", help="modern: muon, else adamw.")
    ] = None,
    learning_rate: Annotated[float | None, panel_option(TRAINING, help="At its peak.")] = None,
    adam_learning_rate: Annotated[
        float | None, panel_option(TRAINING, help="muon: of embeddings, head and norms.")
    ] = None,
    momentum: Annotated[float | None, panel_option(TRAINING, help="Of muon.")] = None,
    schedule: Annotated[
        str | None,
        panel_option(
            TRAINING, metavar="cosine|linear|wsd|inverse-sqrt", help="muon: linear, else cosine."
        ),
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
    track_internals: Annotated[
        int | None,
        panel_option(
            TRAINING,
            metavar="N",
            help="Look inside every N steps: attention, queries, gradients; drawn at the end.",
        ),
    ] = None,
    track_text: Annotated[
        str | None,
        panel_option(
            TRAINING,
            help="On this text; default: held-out tokens. Of a --task: a source, or "
            "'SOURCE => TARGET'; default: a held-out pair.",
        ),
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
    backend: Annotated[
        str | None,
        panel_option(
            TRAINING,
            metavar="toolkit|huggingface",
            help="What trains: toolkit, or the same model by transformers' classes and Trainer.",
        ),
    ] = None,
    parallel: Annotated[
        str | None,
        panel_option(
            TRAINING, metavar="ddp|fsdp", help="Under torchrun: copies of the model, or shares."
        ),
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
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Walk through the next step's forward pass first; show an error's traceback.",
        ),
    ] = False,
) -> None:
    """Train a model on a text, or on pairs of texts, and write a run folder.

    Ctrl-C stops and saves; `toolkit train --resume` continues where it stopped, to the bit.
    On several devices: torchrun --nproc-per-node N -m toolkit train …
    """
    from toolkit import console, display
    from toolkit.corpora import load_corpus
    from toolkit.internals import draw_if_tracked
    from toolkit.materials.choosing import require_task
    from toolkit.pipeline import TrainingSession
    from toolkit.speedrun import DEFAULT_BUDGET, process_age
    from toolkit.tokenizers.registry import class_of_spec
    from toolkit.training.distributed import is_main, join_world, launched

    def open_text(on_progress: console.OnProgress) -> Corpus:
        return load_corpus(
            corpus,
            encoding=encoding,
            errors=errors,
            text_field=text_field,
            on_progress=lambda done, total: on_progress("reading", done, total),
        )

    given = given_fields(context)
    if not resume:
        # What is wrong with names is said before a corpus is fetched.
        for spec in (tokenizer, src_tokenizer, tgt_tokenizer):
            if spec is not None:
                class_of_spec(spec)
        if task is None:
            require_task(model, src_tokenizer, tgt_tokenizer)
    refuse_of_texts(context, task)
    own_tokenizer = was_given(context, "tokenizer") or (init is None and task is None)
    own_model = was_given(context, "model") or (init is None and task is None)
    parts: dict[str, Any] = {
        "model": model if own_model else None,
        "task": task,
        "src_tokenizer": src_tokenizer,
        "tgt_tokenizer": tgt_tokenizer,
        "preset": preset,
        "size": size,
        "held_out": held_out,
        "device": device,
        "tokenizer_options": tokenizer_options(unknown, max_memory, option),
    }
    if find_lr:
        if launched():
            raise UsageError("--find-lr runs in one process: leave torchrun out.")
        _refuse_when_finding(context)
        given |= _rates_of(lr_range)
        with console.progress_bars(quiet or json) as on_progress:
            text = open_text(on_progress) if task is None else corpus
        chosen = tokenizer if own_tokenizer else None
        _find_learning_rate(text, chosen, out, {**parts, **given}, json=json, quiet=quiet)
        return
    if track_text == "":
        raise UsageError("--track-text is empty: give a text to follow, or leave it out.")
    if lr_range is not None:
        raise UsageError("--lr-range belongs to --find-lr: give both, or neither.")
    budget: float | None = None
    if speedrun:
        # What --max-time bounds here is all of it, not the training alone.
        budget = DEFAULT_BUDGET if max_time is None else max_time
        given.pop("max_time", None)
    show = display.training_display(
        as_json=json, quiet=quiet, verbose=verbose, silent=not is_main()
    )
    if resume:
        _refuse_when_resuming(context)
        if device != "auto":
            given["device"] = device
        session = TrainingSession.resume(out, track=track or (), on_stage=show.stage, **given)
    else:
        # The processes of a torchrun meet before one of them reads the text for all.
        world = join_world(parallel or "auto", device)
        with show.preparing() as on_progress:
            session = TrainingSession.start(
                open_text(on_progress) if world.is_main and task is None else corpus,
                tokenizer if own_tokenizer else None,
                init=init,
                out=out,
                speedrun=budget,
                spent=process_age(),
                track=track or (),
                on_stage=show.stage,
                on_progress=on_progress,
                world=world,
                **parts,
                **given,
            )
    if debug:
        walk = session.walk_next_step()
        if walk is not None:
            show.walk(walk, session.tokenizer, session.materials.source_tokenizer)
    show.run(session)
    if session.run.info.status == "interrupted":
        raise typer.Exit(130)
    if not is_main():
        return
    if not speedrun:
        from toolkit.run_plots import write_training_curves

        write_training_curves(session.run)
    show.drawn(draw_if_tracked(session.run))


def _find_learning_rate(
    text: Corpus | str,
    tokenizer: str | None,
    out: Path | None,
    options: dict[str, Any],
    *,
    json: bool,
    quiet: bool,
) -> None:
    from toolkit import console, range_view
    from toolkit.learning_rate import find_learning_rate, range_to_json, write_range
    from toolkit.run import new_run_folder
    from toolkit.training.range_test import STEPS

    steps = options.get("max_steps", STEPS)
    with range_view.showing(steps, quiet=quiet or json) as on_step:
        found = find_learning_rate(text, tokenizer, on_step=on_step, **options)
    files = write_range(found, new_run_folder("find-lr", out))
    if json:
        console.print_json({**range_to_json(found), "files": files})
    else:
        range_view.print_range(found, quiet=quiet)
        range_view.print_files(files, quiet=quiet)
    if found.interrupted:
        raise typer.Exit(130)


def _rates_of(lr_range: str | None) -> dict[str, float]:
    if lr_range is None:
        return {}
    try:
        low, high = map(float, lr_range.split(","))
    except ValueError:
        raise UsageError(
            f"--lr-range '{lr_range}' is not two numbers: write for example 1e-6,10."
        ) from None
    return {"low": low, "high": high}


def _refuse_when_finding(context: typer.Context) -> None:
    for name in ("resume", "init", "speedrun", "max_time", "track", "track_internals", "backend"):
        if was_given(context, name):
            raise UsageError(
                f"--{name.replace('_', '-')} cannot be given with --find-lr, which trains for "
                "--max-steps from scratch and keeps no run. Leave one of them out."
            )


def _refuse_when_resuming(context: typer.Context) -> None:
    parts = ("tokenizer", "corpus", "model", "init", "preset", "size", "speedrun", "task")
    of_pairs = ("src_tokenizer", "tgt_tokenizer")
    for name in (*parts, *of_pairs, "held_out", "unknown", "encoding", "max_memory", "option"):
        if was_given(context, name):
            option = "--tokenizer-option" if name == "option" else "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} cannot be given with --resume: a run keeps what it was started with. "
                "Leave it out, or start a new run without --resume."
            )
