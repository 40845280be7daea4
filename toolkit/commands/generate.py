"""`toolkit generate`: a trained model continues a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from toolkit.commands.model_options import (
    ContextPolicy,
    Dtype,
    ModelSource,
    ModelTokenizer,
    Quantize,
    open_chosen,
    weight_format,
)
from toolkit.commands.options import (
    Config,
    Debug,
    Device,
    Json,
    Quiet,
    RunPath,
    Verbose,
    panel_option,
    read_text,
    refuse_together,
)
from toolkit.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from toolkit.generation import Generator
    from toolkit.opening import OpenedModel
    from toolkit.tokenizers import Tokenizer

commands = typer.Typer()

# How many likely tokens --show probs shows.
RUNNERS_UP = 3

_DRAWING = "How tokens are drawn"
_SEARCH = "Searches and drafts"
_OUTPUT = "Output"
_STRATEGIES = "multinomial|greedy|top-k|top-p|min-p|typical|epsilon|eta|beam|contrastive"


@commands.command(
    epilog='Examples: [cyan]toolkit generate "ROMEO:"[/cyan] · '
    "[cyan]toolkit generate --strategy top-k --top-k 50 --seed 1 JULIET:[/cyan] · "
    "[cyan]toolkit generate --sampler repetition-penalty=1.2,temperature=0.8,min-p=0.05[/cyan] · "
    "[cyan]toolkit generate --model openai-community/gpt2 Hello[/cyan] · "
    "[cyan]toolkit generate --prompts prompts.txt --jsonl[/cyan] · "
    "[cyan]echo -n ROMEO: | toolkit generate - --json[/cyan]"
)
def generate(
    prompt: Annotated[
        str,
        typer.Argument(help="The beginning, or what to translate; - reads standard input."),
    ] = "",
    run: RunPath = None,
    model: ModelSource = None,
    tokenizer: ModelTokenizer = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="One prompt a line, or .jsonl with the field prompt in each line."
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="How much to write.")] = 200,
    max_time: Annotated[
        float | None, typer.Option(help="Seconds after which no further token is drawn.")
    ] = None,
    num_samples: Annotated[int, typer.Option(help="How many texts.")] = 1,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after a token that ends a text.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    strategy: Annotated[
        str | None,
        panel_option(
            _DRAWING,
            metavar=_STRATEGIES,
            help="How tokens are chosen; multinomial by default, greedy to translate.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        panel_option(
            _DRAWING, help="Below 1 is safer, above wilder; 0.7 if no option says otherwise."
        ),
    ] = None,
    top_k: Annotated[
        int | None, panel_option(_DRAWING, help="Only the k likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None, panel_option(_DRAWING, help="Only the likeliest with p together.")
    ] = None,
    min_p: Annotated[
        float | None,
        panel_option(_DRAWING, help="Only those at least p times as likely as the likeliest."),
    ] = None,
    typical_p: Annotated[
        float | None, panel_option(_DRAWING, help="Only the most typical with p together.")
    ] = None,
    epsilon_cutoff: Annotated[
        float | None, panel_option(_DRAWING, help="Only those of at least this probability.")
    ] = None,
    eta_cutoff: Annotated[
        float | None,
        panel_option(_DRAWING, help="As epsilon, less where the model is unsure."),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        panel_option(_DRAWING, help="Above 1: what occurs in prompt or text is less likely."),
    ] = None,
    presence_penalty: Annotated[
        float | None, panel_option(_DRAWING, help="Off the logit of each token drawn before.")
    ] = None,
    frequency_penalty: Annotated[
        float | None,
        panel_option(_DRAWING, help="Off the logit for each time that a token was drawn."),
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, panel_option(_DRAWING, help="Never the same n tokens in a row twice.")
    ] = None,
    logit_bias: Annotated[
        list[str] | None,
        panel_option(
            _DRAWING, metavar="TEXT=BIAS", help="Make a text more or less likely; repeatable."
        ),
    ] = None,
    forbid: Annotated[
        list[str] | None,
        panel_option(_DRAWING, metavar="TEXT", help="Never this text's tokens; repeatable."),
    ] = None,
    force: Annotated[
        str | None, panel_option(_DRAWING, metavar="TEXT", help="The new text begins with this.")
    ] = None,
    sampler: Annotated[
        str | None,
        panel_option(
            _DRAWING,
            metavar="NAME=NUMBER,…",
            help="Processors in an order of your own, instead of the options above.",
        ),
    ] = None,
    regex: Annotated[
        str | None,
        panel_option(_DRAWING, metavar="PATTERN", help="The new text matches this as a whole."),
    ] = None,
    json_schema: Annotated[
        str | None,
        panel_option(_DRAWING, metavar="FILE", help="The new text is JSON of this schema."),
    ] = None,
    num_beams: Annotated[
        int | None, panel_option(_SEARCH, help="beam: how many sequences are kept; 4.")
    ] = None,
    length_penalty: Annotated[
        float | None, panel_option(_SEARCH, help="beam: above 0 favours longer texts; 1.")
    ] = None,
    num_groups: Annotated[
        int | None, panel_option(_SEARCH, help="beam: groups that differ from each other; 1.")
    ] = None,
    diversity_penalty: Annotated[
        float | None, panel_option(_SEARCH, help="beam: how much groups are to differ.")
    ] = None,
    early_stopping: Annotated[
        str | None,
        panel_option(
            _SEARCH,
            metavar="true|false|never",
            help="beam: end with enough sequences; when better ones are unlikely; impossible.",
        ),
    ] = None,
    contrast_k: Annotated[
        int | None, panel_option(_SEARCH, help="contrastive: how many tokens compete; 5.")
    ] = None,
    contrast_alpha: Annotated[
        float | None,
        panel_option(_SEARCH, help="contrastive: how much unlikeness counts, 0 to 1; 0.6."),
    ] = None,
    draft: Annotated[
        str | None,
        panel_option(
            _SEARCH, metavar="RUN", help="A smaller run that drafts tokens; same distribution."
        ),
    ] = None,
    num_draft_tokens: Annotated[
        int | None, panel_option(_SEARCH, help="How many it drafts at once; 4.")
    ] = None,
    show: Annotated[
        str | None,
        panel_option(_OUTPUT, metavar="probs", help="Tokens coloured by their probability."),
    ] = None,
    logprobs: Annotated[
        int | None,
        panel_option(_OUTPUT, metavar="N", help="JSON: each token's logprob and N likeliest."),
    ] = None,
    jsonl: Annotated[
        bool, panel_option(_OUTPUT, "--jsonl", help="One line of JSON a text, as it is finished.")
    ] = False,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            "-i",
            help="Write in turns with the model, or translate line by line; /help.",
        ),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    context_policy: ContextPolicy = "slide",
    engine: Annotated[
        str,
        typer.Option(
            metavar="auto|torch|compiled", help="What computes tokens one by one on a CPU."
        ),
    ] = "auto",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Continue a prompt with a trained model, a run or a folder of Hugging Face's; it streams.

    A run of --task translates it.
    """
    from toolkit import console, generation_repl, generation_view
    from toolkit.generation import (
        Generator,
        Translator,
        fresh_seed,
        parse_early_stopping,
        parse_sampler,
        read_prompts,
        with_default_temperature,
    )

    refuse_together({"--json": json, "--jsonl": jsonl, "--show": show})
    refuse_together({"PROMPT": prompt or None, "--prompts": prompts, "--interactive": interactive})
    refuse_together({"--json": json, "--jsonl": jsonl, "--interactive": interactive})
    if interactive and (show is not None or num_samples != 1):
        raise UsageError("--interactive shows one text: leave --show and --num-samples out.")
    weights = weight_format(dtype, quantize)
    if show is not None and show != "probs":
        raise UnknownNameError("view", show, ["probs"])
    if logprobs is not None and not (json or jsonl):
        raise UsageError("--logprobs is for --json and --jsonl; to look at them: --show probs.")
    piped = prompt == "-"
    if piped:
        prompt = read_text("-")
    texts = [prompt] if prompts is None else read_prompts(prompts)
    opened = open_chosen(run, model, tokenizer, device)
    translates = opened.model.takes_source
    generator: Generator
    if translates:
        _refuse_of_texts(
            {
                "--draft": draft,
                "--engine": None if engine == "auto" else engine,
                "--context-policy": None if context_policy == "slide" else context_policy,
            }
        )
        if piped:  # a source has no line's end, and `echo` writes one
            texts = [prompt.removesuffix("\n")]
        generator = Translator(
            opened.model, opened.tokenizer, opened.source_tokenizer, weights=weights
        )
    else:
        generator = Generator(
            opened.model,
            opened.tokenizer,
            end_ids=opened.end_ids,
            weights=weights,
            context_policy=cast(Any, context_policy),
            engine=cast(Any, engine),
        )
    given: dict[str, Any] = {
        "strategy": strategy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "epsilon_cutoff": epsilon_cutoff,
        "eta_cutoff": eta_cutoff,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "no_repeat_ngram": no_repeat_ngram,
        "logit_bias": _read_biases(logit_bias, opened.tokenizer),
        "forbid": [_ids("--forbid", text, opened.tokenizer) for text in forbid or ()] or None,
        "force": None if force is None else _ids("--force", force, opened.tokenizer),
        "sampler": None if sampler is None else parse_sampler(sampler),
        "regex": regex,
        "json_schema": None if json_schema is None else read_text(json_schema),
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "num_groups": num_groups,
        "diversity_penalty": diversity_penalty,
        "early_stopping": None if early_stopping is None else parse_early_stopping(early_stopping),
        "contrast_k": contrast_k,
        "contrast_alpha": contrast_alpha,
        "num_draft_tokens": num_draft_tokens,
        "max_time": max_time,
        "logprobs": RUNNERS_UP if show else logprobs,
    }
    options = {name: value for name, value in given.items() if value is not None}
    options |= {"max_new_tokens": max_new_tokens, "stop": tuple(stop or ())}
    options |= {"ignore_eos": ignore_eos, "seed": fresh_seed() if seed is None else seed}
    with_default = dict(with_default_temperature(cast(Any, options)))
    if translates and strategy is None and with_default != options:
        options["strategy"] = "greedy"  # nothing says how to draw
    else:
        options = with_default
    if draft is not None:
        options["draft"] = _open_draft(draft, opened, device)
    if verbose:
        console.notice(f"{opened.folder}, {opened.model.num_params():,} parameters")
    if interactive:
        session = generation_repl.TranslationSession if translates else generation_repl.Session
        session(generator, options).run()
        return
    if json or jsonl:
        found = generator.generate_many(texts, num_samples, **options)
        rows = map(generation_view.completion_to_json, found)
        if jsonl:
            for row in rows:
                console.print_json_line(row)
            return
        kind = "run" if model is None else "model"
        console.print_json({kind: str(opened.folder), "samples": list(rows)})
        return
    _print_texts(generator, texts, num_samples, options, with_probabilities=show is not None)
    if verbose:
        console.notice(f"seed {options['seed']}")


def _print_texts(
    generator: Generator,
    texts: list[str],
    num_samples: int,
    options: dict[str, Any],
    *,
    with_probabilities: bool,
) -> None:
    """The samples for people; text is shown as it comes where that is possible.

    A translation is a line of its own, without what it translates.
    """
    from toolkit import console, generation_view
    from toolkit.generation import sample_seed

    continues = not generator.model.takes_source
    # The samples of a beam search are its several best: they are found together. Several prompts
    # are quicker together.
    together = with_probabilities or len(texts) > 1 or options.get("strategy") == "beam"
    if together or num_samples < 1:  # which the generator refuses
        samples = generator.generate_many(texts, num_samples, **options)
        for number, sample in enumerate(samples):
            if number and continues:
                console.print_rule()
            if continues:
                console.print_prompt(sample.prompt)
            if with_probabilities:
                generation_view.print_probabilities(sample)
            else:
                console.print_pieces(iter([sample.text]))
        return
    for number, text in enumerate(text for text in texts for _ in range(num_samples)):
        seed = sample_seed(options["seed"], number % num_samples)
        pieces = generator.stream(text, **{**options, "seed": seed})
        if number and continues:
            console.print_rule()
        if continues:
            console.print_prompt(text)
        console.print_pieces(pieces)


def _refuse_of_texts(options: dict[str, Any]) -> None:
    """Refuse what a model that answers texts has not."""
    for name, value in options.items():
        if value not in (None, False):
            raise UsageError(f"{name} is for models that continue texts; this run translates.")


def _open_draft(draft: str, opened: OpenedModel, device: str) -> Any:
    smaller = open_chosen(None, draft, None, device)
    if smaller.tokenizer.fingerprint() != opened.tokenizer.fingerprint():
        raise UsageError(
            f"--draft {draft} has another tokenizer than {opened.folder}: both must have the same."
        )
    return smaller.model


def _read_biases(
    values: list[str] | None, tokenizer: Tokenizer
) -> dict[tuple[int, ...], float] | None:
    biases = {}
    for value in values or ():
        text, equals, number = value.rpartition("=")
        try:
            bias = float(number)
        except ValueError:
            bias = None
        if not equals or bias is None:
            raise UsageError(f"--logit-bias '{value}': expected TEXT=BIAS, such as ' love=2.5'")
        biases[_ids("--logit-bias", text, tokenizer)] = bias
    return biases or None


def _ids(option: str, text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    if not text:
        raise UsageError(f"{option} needs a text of at least one character.")
    return tuple(tokenizer.encode(text))
