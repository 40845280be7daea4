"""`toolkit compare`: a model of ours beside transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    Quiet,
    TextField,
    TokenizerSpec,
    Verbose,
    given_fields,
    panel_option,
    refuse_of_texts,
    was_given,
)

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit compare[/cyan] · "
    "[cyan]toolkit compare --preset gpt2 --size nano --steps 100 --out compared/[/cyan] · "
    "[cyan]toolkit compare --task reverse[/cyan] · "
    "[cyan]toolkit compare --task pairs.tsv --norm-order pre --out compared/[/cyan] · "
    "[cyan]toolkit compare -c my.txt --device cuda --dtype bfloat16 --json[/cyan]"
)
def compare(
    context: typer.Context,
    corpus: CorpusSpec = "shakespeare",
    tokenizer: TokenizerSpec = "bpe",
    model: Annotated[
        str,
        panel_option(PARTS, metavar="NAME", help="gpt; encoder-decoder for a --task."),
    ] = "gpt",
    task: Annotated[
        str | None,
        panel_option(
            PARTS,
            metavar="NAME|FILE",
            help="Pairs to learn, in place of a corpus: copy, reverse, sort, add or date, a .tsv "
            "file, or .jsonl with source and target.",
        ),
    ] = None,
    # These two have no twin; whoever knows them from `toolkit train` is told so.
    src_tokenizer: Annotated[str | None, typer.Option(hidden=True)] = None,
    tgt_tokenizer: Annotated[str | None, typer.Option(hidden=True)] = None,
    preset: Annotated[
        str | None, panel_option(PARTS, metavar="modern|gpt2", help="Default modern.")
    ] = None,
    size: Annotated[
        str | None,
        panel_option(
            PARTS,
            metavar="nano|micro|mini|small|medium|large|xl",
            help="Default nano; of a task its own.",
        ),
    ] = None,
    steps: Annotated[int, panel_option(PARTS, help="Optimizer steps of each.")] = 50,
    out: Annotated[
        Path | None, panel_option(PARTS, help="A folder for the numbers and the figure.")
    ] = None,
    config: Config = None,
    n_layer: Annotated[int | None, panel_option(MODEL, help="Blocks.")] = None,
    n_encoder_layer: Annotated[
        int | None, panel_option(MODEL, help="Blocks of an encoder; as many as of the decoder.")
    ] = None,
    n_head: Annotated[int | None, panel_option(MODEL, help="Attention heads.")] = None,
    n_kv_head: Annotated[int | None, panel_option(MODEL, help="Key/value heads.")] = None,
    n_embd: Annotated[int | None, panel_option(MODEL, help="Channels.")] = None,
    n_inner: Annotated[int | None, panel_option(MODEL, help="Hidden channels of the MLP.")] = None,
    block_size: Annotated[int | None, panel_option(MODEL, help="Context in tokens.")] = None,
    norm_order: Annotated[
        str | None,
        panel_option(
            MODEL,
            metavar="pre|post",
            help="encoder-decoder: before each part (Pegasus), or after its sum (Marian).",
        ),
    ] = None,
    mlp: Annotated[
        str | None,
        panel_option(MODEL, metavar="gelu|relu2|swiglu|relu", help="What is between its matrices."),
    ] = None,
    dropout: Annotated[
        float | None,
        panel_option(MODEL, help="Default 0: else the two need not draw the same."),
    ] = None,
    held_out: Annotated[
        float, panel_option(PARTS, help="Share of the text or the pairs not to train on.")
    ] = 0.1,
    batch_size: Annotated[int | None, panel_option(TRAINING, help="Sequences a step.")] = None,
    optimizer: Annotated[
        str | None, panel_option(TRAINING, metavar="adamw|muon", help="modern: muon, else adamw.")
    ] = None,
    learning_rate: Annotated[float | None, panel_option(TRAINING, help="At its peak.")] = None,
    schedule: Annotated[
        str | None,
        panel_option(
            TRAINING, metavar="cosine|linear|wsd|inverse-sqrt", help="muon: linear, else cosine."
        ),
    ] = None,
    warmup_steps: Annotated[int | None, panel_option(TRAINING, help="Of linear warm-up.")] = None,
    weight_decay: Annotated[float | None, panel_option(TRAINING, help="Of the matrices.")] = None,
    label_smoothing: Annotated[
        float | None,
        panel_option(TRAINING, help="Share of each target that all tokens get; of a file 0.1."),
    ] = None,
    grad_accumulation: Annotated[
        int | None, panel_option(TRAINING, help="Batches whose gradients make one step.")
    ] = None,
    seed: Annotated[int | None, panel_option(TRAINING, help="Same seed, same result.")] = None,
    dtype: Annotated[
        str | None,
        panel_option(TRAINING, metavar="float32|bfloat16|float16", help="Default float32."),
    ] = None,
    device: Device = "auto",
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train a model by us and by transformers, step by step in turn, and compare everything.

    The same configuration, tokenizer, weights at the start, batches and optimizer. With --out it
    writes compare.json, compare.png and compare.svg.
    """
    from toolkit import comparing_view, console
    from toolkit.comparing.report import comparison_to_json, write_comparison
    from toolkit.comparing.training import compare_backends
    from toolkit.corpora import Corpus, load_corpus
    from toolkit.errors import UsageError
    from toolkit.materials.choosing import require_task
    from toolkit.tokenizers.registry import class_of_spec

    # What is wrong with names is said before a corpus is fetched.
    class_of_spec(tokenizer)
    if task is None:
        require_task(model, src_tokenizer, tgt_tokenizer)
    refuse_of_texts(context, task)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; expected a folder.")
    text: Corpus | str = corpus
    if task is None:
        with console.progress_bars(quiet or json) as show:
            text = load_corpus(
                corpus,
                encoding=encoding,
                errors=errors,
                text_field=text_field,
                on_progress=lambda done, total: show("reading", done, total),
            )
    with comparing_view.showing(steps, quiet=quiet or json) as on_step:
        found = compare_backends(
            text,
            tokenizer if task is None or was_given(context, "tokenizer") else None,
            steps=steps,
            on_step=on_step,
            model=model if task is None or was_given(context, "model") else None,
            task=task,
            src_tokenizer=src_tokenizer,
            tgt_tokenizer=tgt_tokenizer,
            preset=preset,
            held_out=held_out,
            size=size or ("nano" if task is None else None),
            device=device,
            **given_fields(context),
        )
    files = [] if out is None else write_comparison(found, out)
    if json:
        console.print_json(comparison_to_json(found))
    else:
        comparing_view.print_comparison(found, quiet=quiet)
        comparing_view.print_files(files, quiet=quiet or out is None)
