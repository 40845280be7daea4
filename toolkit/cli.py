"""The command line: each command parses, calls the library, prints.

Nothing heavy is imported here: torch and the rest come in when a command that needs them runs.
"""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import toolkit
from toolkit.cli_options import (
    Config,
    CorpusSpec,
    Debug,
    Device,
    Encoding,
    Errors,
    Json,
    MaxMemory,
    Quiet,
    RunPath,
    TextField,
    TokenizerOption,
    TokenizerSpec,
    Unknown,
    Verbose,
    refuse_together,
    tokenizer_options,
    was_given,
)
from toolkit.errors import ToolkitError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from toolkit.corpora import Corpus

app = typer.Typer(
    name="toolkit",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train small language models on your own text, generate from them, and look inside.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"toolkit {toolkit.__version__}")
        raise typer.Exit


# Small models are unsure of much: drawn as they are, their texts have more invented words.
DEFAULT_TEMPERATURE = 0.7

_PARTS = "What"
_MODEL = "Model"
_TRAINING = "Training"


def _option(panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""


@app.command(
    epilog="Examples: [cyan]toolkit train[/cyan] · "
    "[cyan]toolkit train -t char -c my.txt --size nano[/cyan] · "
    "[cyan]toolkit train --resume[/cyan]"
)
def train(
    tokenizer: TokenizerSpec = "bpe",
    corpus: CorpusSpec = "shakespeare",
    model: Annotated[
        str,
        _option(
            _PARTS,
            metavar="NAME",
            help="bigram, average-loop, average-matmul, average-softmax, single-head or gpt.",
        ),
    ] = "gpt",
    preset: Annotated[
        str | None, _option(_PARTS, metavar="modern|gpt2", help="gpt's parts; default modern.")
    ] = None,
    size: Annotated[
        str | None,
        _option(_PARTS, metavar="nano|micro|mini|small|medium", help="Default: by the device."),
    ] = None,
    out: Annotated[
        Path | None, _option(_PARTS, help="The run folder; default runs/NAME-N.")
    ] = None,
    resume: Annotated[
        bool, _option(_PARTS, "--resume", help="Continue the newest run, or the one at --out.")
    ] = False,
    config: Config = None,
    n_layer: Annotated[int | None, _option(_MODEL, help="Blocks.")] = None,
    n_head: Annotated[int | None, _option(_MODEL, help="Attention heads.")] = None,
    n_kv_head: Annotated[int | None, _option(_MODEL, help="Key/value heads.")] = None,
    n_embd: Annotated[int | None, _option(_MODEL, help="Channels.")] = None,
    head_dim: Annotated[int | None, _option(_MODEL, help="Channels of a head.")] = None,
    position: Annotated[
        str | None,
        _option(
            _MODEL,
            metavar="none|learned|rotary",
            help="How positions are told apart; gpt: learned or rotary, others: none or learned.",
        ),
    ] = None,
    block_size: Annotated[int | None, _option(_MODEL, help="Context in tokens.")] = None,
    dropout: Annotated[float | None, _option(_MODEL, help="Probability, 0 to 1.")] = None,
    speedrun: Annotated[
        bool,
        _option(
            _TRAINING,
            "--speedrun",
            help="The lowest loss in --max-time seconds of everything; 15 if it is not given.",
        ),
    ] = False,
    batch_size: Annotated[int | None, _option(_TRAINING, help="Sequences a step.")] = None,
    max_steps: Annotated[int | None, _option(_TRAINING, help="Optimizer steps.")] = None,
    max_time: Annotated[float | None, _option(_TRAINING, help="Seconds of training.")] = None,
    optimizer: Annotated[
        str | None, _option(_TRAINING, metavar="adamw|muon", help="Default: adamw.")
    ] = None,
    learning_rate: Annotated[float | None, _option(_TRAINING, help="At its peak.")] = None,
    adam_learning_rate: Annotated[
        float | None, _option(_TRAINING, help="muon: of embeddings, head and norms.")
    ] = None,
    momentum: Annotated[float | None, _option(_TRAINING, help="Of muon.")] = None,
    schedule: Annotated[
        str | None, _option(_TRAINING, metavar="cosine|linear|wsd", help="Default: cosine.")
    ] = None,
    warmup_steps: Annotated[int | None, _option(_TRAINING, help="Of linear warm-up.")] = None,
    weight_decay: Annotated[float | None, _option(_TRAINING, help="Of the matrices.")] = None,
    grad_clip: Annotated[float | None, _option(_TRAINING, help="Largest gradient norm.")] = None,
    grad_accumulation: Annotated[
        int | None, _option(_TRAINING, help="Batches whose gradients make one step.")
    ] = None,
    eval_every: Annotated[int | None, _option(_TRAINING, help="Steps between evaluations.")] = None,
    sample_every: Annotated[int | None, _option(_TRAINING, help="Steps between samples.")] = None,
    checkpoint_every: Annotated[
        int | None, _option(_TRAINING, help="Steps between checkpoints.")
    ] = None,
    early_stop: Annotated[
        int | None, _option(_TRAINING, help="Stop after N evaluations without a better loss.")
    ] = None,
    held_out: Annotated[float, _option(_TRAINING, help="Share of the text to validate on.")] = 0.1,
    seed: Annotated[int | None, _option(_TRAINING, help="Same seed, same result.")] = None,
    device: Device = "auto",
    dtype: Annotated[
        str | None,
        _option(_TRAINING, metavar="auto|float32|bfloat16|float16", help="Of the computation."),
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

    given = {
        "n_layer": n_layer,
        "n_head": n_head,
        "n_kv_head": n_kv_head,
        "n_embd": n_embd,
        "head_dim": head_dim,
        "position": position,
        "block_size": block_size,
        "dropout": dropout,
        "batch_size": batch_size,
        "max_steps": max_steps,
        "max_time": max_time,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "adam_learning_rate": adam_learning_rate,
        "momentum": momentum,
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "weight_decay": weight_decay,
        "grad_clip": grad_clip,
        "grad_accumulation": grad_accumulation,
        "eval_every": eval_every,
        "sample_every": sample_every,
        "checkpoint_every": checkpoint_every,
        "early_stop": early_stop,
        "seed": seed,
        "dtype": dtype,
    }
    options = {name: value for name, value in given.items() if value is not None}
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


@app.command(
    epilog="Examples: [cyan]toolkit ladder[/cyan] · "
    "[cyan]toolkit ladder -c tiny-shakespeare --max-steps 500 --prompt ROMEO:[/cyan] · "
    "[cyan]toolkit ladder --models bigram,single-head,gpt --max-time 20 --out ladder/[/cyan]"
)
def ladder(
    corpus: CorpusSpec = "shakespeare",
    tokenizer: TokenizerSpec = "char",
    models: Annotated[
        str | None, _option(_PARTS, metavar="NAME,NAME,…", help="Some of them; default all.")
    ] = None,
    out: Annotated[Path | None, _option(_PARTS, help="A folder; default runs/ladder-N.")] = None,
    config: Config = None,
    n_embd: Annotated[int, _option(_MODEL, help="Channels.")] = 64,
    block_size: Annotated[int, _option(_MODEL, help="Context in tokens.")] = 32,
    batch_size: Annotated[int, _option(_TRAINING, help="Sequences a step.")] = 32,
    max_steps: Annotated[
        int | None, _option(_TRAINING, help="Of each model; 1000 unless --max-time is given.")
    ] = None,
    max_time: Annotated[float | None, _option(_TRAINING, help="Seconds of each model.")] = None,
    learning_rate: Annotated[
        float, _option(_TRAINING, help="At its peak, the same for all.")
    ] = 1e-2,
    held_out: Annotated[float, _option(_TRAINING, help="Share of the text to validate on.")] = 0.1,
    prompt: Annotated[str, _option(_PARTS, help="What every sample continues.")] = "",
    seed: Annotated[int, _option(_TRAINING, help="Same seed, same result.")] = 0,
    device: Device = "auto",
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train every model from bigram to gpt on the same text and budget, and compare them.

    Writes a run of each, one figure (ladder.png, .svg), a page that says what each step added
    (ladder.html) and the numbers (ladder.json).
    """
    from toolkit import console, ladder_view
    from toolkit.corpora import load_corpus
    from toolkit.ladder import climb, models_to_climb
    from toolkit.reporting import require_plots, write_ladder
    from toolkit.tokenizers.registry import class_of_spec

    require_plots()
    class_of_spec(tokenizer)  # a misspelt name is refused before a corpus is fetched
    names = models_to_climb(
        None if models is None else _split_names(models, "--models", "models, as in bigram,gpt")
    )
    with console.progress_bars(quiet or json) as show:
        text = load_corpus(
            corpus,
            encoding=encoding,
            errors=errors,
            text_field=text_field,
            on_progress=lambda done, total: show("reading", done, total),
        )
    with ladder_view.showing(names, as_json=json, quiet=quiet, verbose=verbose) as on_event:
        result = climb(
            text,
            models=names,
            max_steps=max_steps,
            max_time=max_time,
            n_embd=n_embd,
            block_size=block_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            tokenizer=tokenizer,
            prompt=prompt,
            seed=seed,
            device=device,
            held_out=held_out,
            out=out,
            on_event=on_event,
        )
    files = write_ladder(result, result.folder) if result.rungs else []
    if json:
        console.print_json(result)
    else:
        ladder_view.print_result(result, files, quiet=quiet)
    if result.interrupted:
        raise typer.Exit(130)


def _refuse_when_resuming(context: typer.Context) -> None:
    parts = ("tokenizer", "corpus", "model", "preset", "size", "speedrun")
    for name in (*parts, "held_out", "unknown", "encoding", "max_memory", "option"):
        if was_given(context, name):
            option = "--tokenizer-option" if name == "option" else "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} cannot be given with --resume: a run keeps what it was started with. "
                "Leave it out, or start a new run without --resume."
            )


@app.command(
    epilog='Examples: [cyan]toolkit generate "ROMEO:"[/cyan] · '
    "[cyan]toolkit generate --strategy top-k --top-k 50 --seed 1 JULIET:[/cyan] · "
    "[cyan]echo -n ROMEO: | toolkit generate - --json[/cyan]"
)
def generate(
    prompt: Annotated[str, typer.Argument(help="The beginning; - reads standard input.")] = "",
    run: RunPath = None,
    max_new_tokens: Annotated[int, typer.Option(help="How much to write.")] = 200,
    strategy: Annotated[
        str,
        typer.Option(metavar="multinomial|greedy|top-k|top-p", help="How the next token is drawn."),
    ] = "multinomial",
    temperature: Annotated[
        float | None,
        typer.Option(help="Below 1 is safer, above wilder; 0.7 if no option says otherwise."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest with p together.")] = None,
    num_samples: Annotated[int, typer.Option(help="How many texts.")] = 1,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    device: Device = "auto",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Continue a prompt with a trained model; the text streams as it is made."""
    from toolkit import console
    from toolkit.generation import Generator, fresh_seed, sample_seed
    from toolkit.run import Run
    from toolkit.training import resolve_device

    if prompt == "-":
        prompt = _read_stdin()
    opened = Run.open(run, device=str(resolve_device(device)))
    generator = Generator(opened.model, opened.tokenizer)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "strategy": strategy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop": tuple(stop or ()),
    }
    if strategy == "multinomial" and temperature is None and top_k is None and top_p is None:
        options["temperature"] = DEFAULT_TEMPERATURE
    if num_samples < 1:
        raise UsageError(f"--num-samples {num_samples} must be at least 1")
    if verbose:
        console.notice(f"{opened.folder}, {opened.model.num_params():,} parameters")
    if json:
        samples = generator.generate_samples(prompt, num_samples, seed=seed, **options)
        rows = [console.completion_to_json(sample) for sample in samples]
        console.print_json({"run": str(opened.folder), "samples": rows})
        return
    if seed is None:
        seed = fresh_seed()
    for number in range(num_samples):
        pieces = generator.stream(prompt, seed=sample_seed(seed, number), **options)
        if number:
            console.print_rule()
        console.print_prompt(prompt)
        console.print_pieces(pieces)
    if verbose:
        console.notice(f"seed {seed}")


def _read_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Standard input is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}."
        ) from error


@app.command(
    "vocab-stats",
    epilog="Examples: [cyan]toolkit vocab-stats[/cyan] · "
    "[cyan]toolkit vocab-stats --compare char,word,bpe:1k,bpe:4k,tiktoken:cl100k_base[/cyan] · "
    "[cyan]toolkit vocab-stats --suggest[/cyan] · "
    "[cyan]toolkit vocab-stats -t bpe:4k --out figures/ --html report.html[/cyan]",
)
def vocab_stats(
    tokenizer: TokenizerSpec = "bpe",
    compare: Annotated[
        str | None,
        typer.Option(metavar="SPEC,SPEC,…", help="Several tokenizers side by side."),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            "-c",
            metavar="NAME|FILE|FOLDER|GLOB|-",
            help="The text, by default shakespeare; repeat it to compare texts.",
        ),
    ] = None,
    train_on: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Train on this text instead of each text itself."),
    ] = None,
    split_by: Annotated[
        str | None, typer.Option(metavar="script", help="Count words by script, too.")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="bpe: the vocabulary size at the knee, and why.")
    ] = False,
    every: Annotated[
        int | None, typer.Option(help="bpe: merges between rows of the growth table.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many tokens the lists show.")] = 10,
    n_embd: Annotated[int, typer.Option(help="Channels, for the size of an embedding.")] = 768,
    held_out: Annotated[float, typer.Option(help="Share of the text kept for unknowns.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option(help="A folder for figures (PNG, SVG), CSV and JSON.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="A file for all of it on one page.")] = None,
    option: TokenizerOption = None,
    unknown: Unknown = None,
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # Typer passes it
) -> None:
    """What a vocabulary does to a text, how it grows, and which tokenizer suits.

    One tokenizer alone: statistics, the laws of Heaps and Zipf, and for a bpe each merge. Several
    (--compare, or several --corpus): a table with the best value of each column marked.
    """
    from toolkit import console, vocab_view
    from toolkit.corpora import load_corpus
    from toolkit.tokenizers.registry import class_of_spec
    from toolkit.vocabularies import measure_vocabularies

    if compare is not None and was_given(context, "tokenizer"):
        raise UsageError("--compare and --tokenizer exclude each other; give one of them.")
    if split_by not in (None, "script"):
        raise UnknownNameError("way for --split-by", str(split_by), ["script"])
    if every is not None and every < 1:
        raise UsageError(f"--every {every} must be at least 1")
    specs = (
        _split_names(compare, "--compare", "tokenizers, as in char,bpe:4k")
        if compare is not None
        else [tokenizer]
    )
    for spec in specs:
        class_of_spec(spec)  # a misspelt name is refused before a corpus is fetched
    if out is not None or html is not None:
        from toolkit.reporting import require_plots
        from toolkit.reporting.vocab_pictures import MOST_SERIES

        require_plots()
        if len(specs) > MOST_SERIES:
            raise UsageError(f"Figures have room for {MOST_SERIES} tokenizers, not {len(specs)}.")
    with console.progress("reading", quiet) as show:

        def load(spec: str) -> Corpus:
            return load_corpus(
                spec, encoding=encoding, errors=errors, text_field=text_field, on_progress=show
            )

        texts = [load(spec) for spec in corpus or ["shakespeare"]]
        source = load(train_on) if train_on is not None else None
    report = measure_vocabularies(
        specs,
        texts,
        train_on=source,
        held_out=held_out,
        options=tokenizer_options(unknown, None, option),
        top=top,
        n_embd=n_embd,
        by_script=split_by == "script",
        suggest=suggest,
        on_stage=console.notice if verbose and not quiet else None,
    )
    written: list[str] = []
    if out is not None:
        from toolkit.reporting import write_report

        written.append(f"{len(write_report(report, out))} files in {out}")
    if html is not None:
        from toolkit.reporting import write_page

        write_page(report, html)
        written.append(str(html))
    if json:
        console.print_json(vocab_view.report_to_json(report, every=every))
    else:
        vocab_view.print_report(report, every=every)
    if written and not quiet:
        console.notice(f"written: {', '.join(written)}")


def _split_names(text: str, option: str, what: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{option} '{text}': expected different {what}.")
    return names


corpora_app = typer.Typer(
    epilog="Examples: [cyan]toolkit corpora[/cyan] · "
    "[cyan]toolkit corpora tokenize -t bpe:4096 --out tokens/[/cyan]"
)
app.add_typer(corpora_app, name="corpora")


@corpora_app.callback(invoke_without_command=True)
def corpora(context: typer.Context, json: Json = False, debug: Debug = False) -> None:
    """The named corpora: size, licence, and whether they are on this machine."""
    if context.invoked_subcommand is not None:
        return
    from toolkit import console
    from toolkit.corpora import list_corpora

    found = list_corpora()
    if json:
        console.print_json(found)
    else:
        console.print_corpora(found)


@corpora_app.command(
    "tokenize",
    epilog="Examples: [cyan]toolkit corpora tokenize -t bpe:4096 --out tokens/[/cyan] · "
    "[cyan]toolkit corpora tokenize -c 'texts/*.jsonl' -t tiktoken:cl100k_base --out ids/[/cyan]",
)
def corpora_tokenize(
    out: Annotated[Path, typer.Option(help="The folder for the token files.")],
    tokenizer: TokenizerSpec = "bpe",
    corpus: CorpusSpec = "shakespeare",
    held_out: Annotated[float, typer.Option(help="Share of the text to validate on.")] = 0.1,
    shard_tokens: Annotated[
        int | None, typer.Option(help="Ids in a file before the next one begins.")
    ] = None,
    max_memory: MaxMemory = None,
    option: TokenizerOption = None,
    unknown: Unknown = None,
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Encode a corpus into token files, as training does; after a kill it goes on where it was.

    The tokenizer that was trained for it is kept in the folder, under tokenizer/.
    """
    from toolkit import console
    from toolkit.corpora import load_corpus
    from toolkit.pipeline import tokenize_corpus

    with console.progress_bars(quiet) as show:
        text = load_corpus(
            corpus,
            encoding=encoding,
            errors=errors,
            text_field=text_field,
            on_progress=lambda done, total: show("reading", done, total),
        )
        result = tokenize_corpus(
            text,
            tokenizer,
            out,
            held_out=held_out,
            shard_tokens=shard_tokens,
            tokenizer_options=tokenizer_options(unknown, max_memory, option),
            on_progress=show,
        )
    if json:
        console.print_json(result)
    else:
        console.print_tokenized(result)


@app.command(
    epilog='Examples: [cyan]toolkit tokenize "hello world"[/cyan] · '
    '[cyan]toolkit tokenize --explain "lower newest"[/cyan] · '
    '[cyan]toolkit tokenize "hello" -t bpe:512 -c tiny-shakespeare --json[/cyan] · '
    "[cyan]toolkit tokenize --count -f a.txt -f b.txt[/cyan] · "
    '[cyan]toolkit tokenize --diff bpe:512 bpe:4k "hello world"[/cyan]'
)
def tokenize(
    text: Annotated[str | None, typer.Argument(help="The text; - reads standard input.")] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="Read the text from a file; repeatable."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", metavar="SPEC", help="Default: the newest run's."),
    ] = None,
    run: RunPath = None,
    corpus: CorpusSpec = "shakespeare",
    ids: Annotated[
        bool, typer.Option("--ids", help="Only the ids, one line for each text.")
    ] = False,
    as_bytes: Annotated[
        bool, typer.Option("--bytes", help="One line a token: id, bytes in hex, how it looks.")
    ] = False,
    count: Annotated[
        bool, typer.Option("--count", help="Only how many tokens; several files as wc does.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="bpe: the merges of each word, step by step.")
    ] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="SPEC SPEC", help="Where two tokenizers cut differently."),
    ] = None,
    option: TokenizerOption = None,
    unknown: Unknown = None,
    encoding: Annotated[
        str, typer.Option(help="Of --file, of standard input and of the corpus's files.")
    ] = "utf-8",
    errors: Errors = "strict",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Show how a text falls into tokens, with ids and bytes; --explain shows why."""
    from toolkit import console, token_view
    from toolkit.corpora import load_corpus
    from toolkit.run import Run
    from toolkit.tokenizers import load_tokenizer
    from toolkit.tokenizers.registry import needs_corpus

    refuse_together({"--tokenizer": tokenizer, "--run": run, "--diff": diff})
    forms = {"--ids": ids, "--bytes": as_bytes, "--count": count, "--explain": explain}
    refuse_together({**forms, "--diff": diff})
    texts = _texts_to_show(text, file, encoding, errors)
    if diff is None and tokenizer is None and (run is not None or _has_run()):
        opened = Run.open(run)
        if not quiet:
            console.notice(f"the tokenizer of {opened.folder}")
        made = [opened.tokenizer]
    else:
        specs = diff or (tokenizer or "bpe",)
        options = tokenizer_options(unknown, None, option)
        source = None
        learning = [spec for spec in specs if needs_corpus(spec)]
        if learning:
            source = load_corpus(corpus, encoding=encoding, errors=errors)
            if not quiet:
                console.notice(f"{' and '.join(learning)}, trained on {source.name}")
        made = [load_tokenizer(spec, source, **options) for spec in specs]
    if diff is not None:
        view = token_view.comparison_view(diff, made[0], made[1], verbose=verbose, quiet=quiet)
    else:
        form = next((name for name, given in forms.items() if given), "--tokens")
        view = token_view.view_of(form, made[0], verbose=verbose, quiet=quiet)
    if json:
        console.print_json(view.document(texts, by_file=bool(file)))
    else:
        view.show(texts)


def _texts_to_show(
    text: str | None, files: list[Path] | None, encoding: str, errors: str
) -> list[tuple[str, str]]:
    """Names and texts: of the files, or of the one text, which has no name."""
    from toolkit.corpora.local import ReadOptions, read_text

    options = ReadOptions(encoding, errors)
    refuse_together({"TEXT": text, "--file": files})
    if files:
        return [(str(path), read_text(path, options)) for path in files]
    if text == "-" or (text is None and not sys.stdin.isatty()):
        return [("", options.decode(sys.stdin.buffer.read(), "Standard input"))]
    if text is None:
        raise UsageError(
            "No text: give it as an argument, with --file PATH, or through a pipe (- reads "
            "standard input)."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Python hides bytes of the command line that are not UTF-8 in lone surrogates.
        raise UsageError(
            f"The text is not valid UTF-8 at position {error.start}. Give it as a file and name "
            "its encoding: --file PATH --encoding latin-1."
        ) from None
    return [("", text)]


def _has_run() -> bool:
    from toolkit.errors import RunError
    from toolkit.run import find_run

    try:
        find_run()
    except RunError:
        return False
    return True


@app.command(epilog="Example: [cyan]toolkit runs[/cyan]")
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs and their results."""
    from toolkit import console
    from toolkit.run import LATEST, follow_latest, list_runs

    found = list_runs(folder)
    target = follow_latest(folder / LATEST)
    latest = target.name if target else None
    if json:
        rows = [
            {"name": run.name, "folder": str(run.folder), **run.info.to_json()} for run in found
        ]
        console.print_json({"latest": latest, "runs": rows})
    elif found:
        console.print_runs(found, latest)
    else:
        console.notice(f"No runs in {folder} yet. Make one with: toolkit train")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failure, 2 misuse, 130 stopped by Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--debug" in arguments:
        code = _run(arguments)
    else:
        try:
            code = _run(arguments)
        except Exception as error:
            code = _explain(error)
        except KeyboardInterrupt:
            code = 130
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    from toolkit import console

    console.print_warning(str(message))


def _run(arguments: list[str]) -> int:
    warnings.showwarning = _show_warning
    result = app(args=arguments, prog_name="toolkit", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    from toolkit import console

    if isinstance(error, BrokenPipeError):
        # The reader went away (`toolkit … | head`): nobody is left to tell.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        sys.stdout = None
        return 1
    if isinstance(error, ToolkitError):
        console.print_error(str(error))
        return error.exit_code
    if isinstance(error, typer.Abort):
        return 130
    if isinstance(error, typer.BadParameter.__mro__[2]):  # click's family of usage errors
        message = error.format_message()  # type: ignore[attr-defined]  # no name to give
        console.print_error(f"{message.rstrip('.')}. See: toolkit --help")
        return 2
    console.print_error(
        f"Unexpected {type(error).__name__}: {error}. This is a fault of toolkit's; "
        "run again with --debug and report the traceback."
    )
    return 1


if __name__ == "__main__":
    main()
