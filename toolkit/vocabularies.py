"""Tokenizers on texts: made as their specs say, measured, and put together as one report.

What `toolkit vocab-stats` does, as a call:

    report = measure_vocabularies(["char", "bpe:4k"], [toolkit.load_corpus("tiny-shakespeare")])
    toolkit.reporting.write_report(report, Path("figures"))

Nothing here knows models, so that no torch has to be loaded to look at a vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolkit.corpora import Corpus
from toolkit.errors import UsageError
from toolkit.reporting.vocab_report import VocabReport
from toolkit.tokenizers import Tokenizer, load_tokenizer
from toolkit.tokenizers.comparison import ComparedTokenizer, compare_tokenizers
from toolkit.tokenizers.growth import HasMerges, suggest_vocab_size, vocab_growth
from toolkit.tokenizers.registry import class_of_spec, needs_corpus, option_names

SUGGEST_UP_TO = 32_768
"""How large a vocabulary is trained to look for a knee, where its spec names no size."""

OnStage = Callable[[str], object]


def measure_vocabularies(
    specs: Sequence[str],
    corpora: Sequence[Corpus],
    *,
    train_on: Corpus | None = None,
    held_out: float = 0.1,
    options: Mapping[str, Any] | None = None,
    top: int = 20,
    n_embd: int = 768,
    by_script: bool = False,
    suggest: bool = False,
    on_stage: OnStage | None = None,
) -> VocabReport:
    """Each tokenizer on each text: trained on a first part of it, measured there, and asked what
    is unknown in the rest.

    A tokenizer alone on one text gets its growth, if it has merges.

    Args:
        specs: tokenizers, as `load_tokenizer` takes them.
        corpora: texts.
        train_on: a text to train on instead of each text's own first part.
        held_out: share of each text that is neither trained on nor measured, but for unknowns.
        options: of the tokenizers; each gets those that it has.
        top: length of the lists of tokens.
        n_embd: channels of a model, for the size of its embedding.
        by_script: count words by script, too.
        suggest: look for the knee of the growth; a spec without a size is trained to 32,768.
        on_stage: told what is being done.

    Raises:
        UsageError: no or unknown specs, two texts of one name, an option that none of the
            tokenizers has, or a suggestion for several tokenizers or texts, or for one without
            merges.
        ToolkitError: whatever is wrong with a tokenizer or a text.
    """
    stage = on_stage or (lambda what: None)
    alone = len(specs) == len(corpora) == 1
    if not specs or not corpora:
        raise UsageError("There have to be at least one tokenizer and one text.")
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"Two of the texts are named '{twice}': rename one to tell them apart.")
    if suggest and not alone:
        raise UsageError("--suggest looks at one tokenizer on one text.")
    given = dict(options or {})
    _check_options(specs, given)

    source = train_on.split(held_out)[0] if train_on is not None else None
    made: dict[str, Tokenizer] = {}
    rows: list[ComparedTokenizer] = []
    growth = suggestion = None
    for corpus in corpora:
        seen, kept = corpus.split(held_out)
        for spec in specs:
            if spec not in made or (source is None and needs_corpus(spec)):
                stage(f"{spec}: training" if needs_corpus(spec) else f"{spec}: opening")
                chosen = _options_for(spec, given, lenient=source is not None)
                if suggest:
                    chosen = {**_size_to_suggest_from(spec), **chosen}
                made[spec] = load_tokenizer(spec, source or seen, **chosen)
            tokenizer = made[spec]
            stage(f"{spec} on {corpus.name}: measuring")
            rows += compare_tokenizers(
                {spec: tokenizer},
                seen,
                kept,
                corpus=corpus.name,
                top=top,
                n_embd=n_embd,
                by_script=by_script,
            )
        if alone and isinstance(tokenizer, HasMerges):
            stage(f"{specs[0]}: replaying its merges")
            growth = vocab_growth(seen, tokenizer, every=1)
    if suggest:
        if growth is None:
            raise UsageError(f"--suggest needs a tokenizer with merges, not '{specs[0]}': use bpe.")
        suggestion = suggest_vocab_size(growth)
    share = f"its first {1 - held_out:.0%}" if held_out else "all of it"
    return VocabReport(
        title=f"{', '.join(specs)} on {', '.join(corpus.name for corpus in corpora)}",
        corpora={corpus.name: f"{corpus.title or corpus.name}, {share}" for corpus in corpora},
        rows=rows,
        growth=growth,
        suggestion=suggestion,
    )


def _check_options(specs: Sequence[str], options: Mapping[str, Any]) -> None:
    names = [option_names(spec) for spec in specs]
    for option in options:
        if all(known is not None and option not in known for known in names):
            raise UsageError(
                f"None of the tokenizers {', '.join(specs)} has an option '{option}'."
                if len(specs) > 1
                else f"The tokenizer '{specs[0]}' has no option '{option}'; "
                f"it has {', '.join(sorted(names[0] or set())) or 'none'}."
            )


def _options_for(spec: str, options: Mapping[str, Any], *, lenient: bool) -> dict[str, Any]:
    """Those of the options that a tokenizer has. One that was made for another text should not
    stop at what it does not know: that is a number of the report."""
    known = option_names(spec)
    chosen = {name: value for name, value in options.items() if known is None or name in known}
    made_elsewhere = lenient or not needs_corpus(spec)
    if made_elsewhere and known is not None and "unknown" in known:
        chosen.setdefault("unknown", "unk")
    return chosen


def _size_to_suggest_from(spec: str) -> dict[str, Any]:
    """A large vocabulary, where the spec lets one choose."""
    known = option_names(spec) or set()
    kind = class_of_spec(spec)
    if kind is not None and hasattr(kind, "word_merges") and "vocab_size" in known:
        return {"vocab_size": SUGGEST_UP_TO}
    return {}
