"""From a name or a spec to a tokenizer. A spec is how a user says which one, in a single word:

    char  word  byte  bpe            trained on a corpus (byte needs none)
    bpe:4096  bpe:4k  word:4k        with a vocabulary size; 1k is 1024
    sentencepiece:unigram            or bpe, char, word; with a size: sentencepiece:unigram:4k
    sentencepiece:PATH.model         one that SentencePiece trained elsewhere
    hf:PATH/tokenizer.json           any tokenizer in Hugging Face's format
    tiktoken:cl100k_base             an encoding of tiktoken, or the path of a rank file
    PATH/                            one that was saved, or the one inside a run folder
    pkg.module:Class                 any subclass of Tokenizer that can be imported

Other packages add names with an entry point in the group `toolkit.tokenizers`. A tokenizer's module
is imported when the tokenizer is asked for, not before.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError, UnknownNameError, UsageError
from toolkit.tokenizers.base import DESCRIPTION_FILE, Tokenizer

ENTRY_POINT_GROUP = "toolkit.tokenizers"
RUN_TOKENIZER_FOLDER = "tokenizer"  # inside a run folder

_BUILT_IN = {
    "char": "toolkit.tokenizers.char:CharTokenizer",
    "word": "toolkit.tokenizers.word:WordTokenizer",
    "byte": "toolkit.tokenizers.byte:ByteTokenizer",
    "bpe": "toolkit.tokenizers.bpe:BPETokenizer",
    "sentencepiece": "toolkit.tokenizers.sentencepiece_backend:SentencePieceTokenizer",
}
# Classes that only ever open a file: what is saved names them, but no spec makes a new one.
_ONLY_OPENED = {
    "huggingface": "toolkit.tokenizers.huggingface_backend:HuggingFaceTokenizer",
}
# Prefixes of specs that open what others made: an example, and the function that does it.
_OPENERS = {
    "hf": ("hf:PATH/tokenizer.json", "toolkit.tokenizers.huggingface_backend:open_huggingface"),
    "tiktoken": ("tiktoken:cl100k_base", "toolkit.tokenizers.bpe:BPETokenizer.from_tiktoken"),
    "sentencepiece": (
        "sentencepiece:PATH.model",
        "toolkit.tokenizers.sentencepiece_backend:SentencePieceTokenizer.from_file",
    ),
}
_PLAIN_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "nothing",
}
_CLASS_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def available_tokenizers() -> list[str]:
    """The names of all tokenizers, built in or from installed packages, sorted.

    Raises:
        UsageError: two packages offer the same name.
    """
    return sorted(_registered())


def find_tokenizer_class(name: str) -> type[Tokenizer]:
    """The class of a registered name, or the one that a spec `pkg.module:Class` names.

    >>> find_tokenizer_class("char").__name__
    'CharTokenizer'

    Raises:
        UnknownNameError: nobody offers the name.
        UsageError: two packages offer the name, the class does not exist or is no tokenizer, or a
            saved one could not be found again because the class calls itself otherwise.
        ToolkitError: importing the module failed.
    """
    registered = _registered()
    if name in registered or name in _ONLY_OPENED:
        found = _import_class({**_ONLY_OPENED, **registered}[name])
        if found.name != name:
            raise UsageError(
                f"The tokenizer '{name}' ({registered[name]}) calls itself '{found.name}'. "
                "The entry point and the class's `name` must be equal."
            )
        return found
    if _CLASS_SPEC.fullmatch(name) is None:
        raise UnknownNameError("tokenizer", name, registered)
    found = _import_class(name)
    own_name = getattr(found, "name", None)
    if own_name != name and (own_name not in registered or registered[own_name] != name):
        raise UsageError(
            f"{name} calls itself '{own_name}', a name that does not lead back to it: a saved one "
            f"could not be opened again. Set its `name` to '{name}', or register it under the "
            f"entry point group {ENTRY_POINT_GROUP}."
        )
    return found


def class_of_spec(spec: str | Path) -> type[Tokenizer] | None:
    """The class that `load_tokenizer(spec)` makes new; None where the spec opens what was made.

    >>> class_of_spec("bpe:4k").__name__
    'BPETokenizer'

    Raises:
        UsageError: the spec names no tokenizer, or a size that is none.
    """
    spec = os.fspath(spec)
    if _opener(spec) is not None or _is_path(spec):
        return None
    kind, _ = _parse(spec)
    return kind


def option_names(spec: str | Path) -> set[str] | None:
    """The names of the options that `load_tokenizer(spec)` takes; None if any name will do.

    >>> sorted(option_names("char")), option_names("runs/first/")
    (['unknown'], set())

    Raises:
        UsageError: the spec names no tokenizer, or a size that is none.
    """
    spec = os.fspath(spec)
    opener = _opener(spec)
    if opener is not None:
        return _names_of(opener[0])
    if _is_path(spec):
        return set()
    kind, set_by_spec = _parse(spec)
    known = _options_of(kind, _is_trained(kind))
    return known if known is None else known - set_by_spec.keys()


def needs_corpus(spec: str | Path) -> bool:
    """Whether `load_tokenizer(spec)` has to be given a text to learn from.

    >>> needs_corpus("bpe:4k"), needs_corpus("tiktoken:cl100k_base"), needs_corpus("runs/first/")
    (True, False, False)

    Raises:
        UsageError: the spec names no tokenizer, or a size that is none.
    """
    kind = class_of_spec(spec)
    return kind is not None and _is_trained(kind)


def load_tokenizer(
    spec: str | Path, corpus: Iterable[str] | None = None, **options: Any
) -> Tokenizer:
    """Open or train the tokenizer that `spec` names (see the top of this module).

    Args:
        spec: what to open or train.
        corpus: the documents to learn from, a `Corpus` or any iterable of strings; a single
            string is one document. Not looked at where nothing is learned.
        options: those of the tokenizer's `train` (or of its constructor, where nothing is
            learned), such as `vocab_size`, `unknown` or `pattern`.

    >>> load_tokenizer("char", "to be or not to be", unknown="unk").encode("to be")
    [6, 4, 0, 1, 2]

    Raises:
        UsageError: no such tokenizer, an option that it does not have, a vocabulary size given
            twice, or no corpus where one is needed.
        RunError: nothing was saved at the path, or it is damaged.
    """
    spec = os.fspath(spec)
    opener = _opener(spec)
    if opener is not None or _is_path(spec):
        refused = options.keys() - (option_names(spec) or set())
        if refused:
            raise UsageError(
                f"'{spec}' opens a tokenizer as it was made: the option '{min(refused)}' cannot "
                "change it. Leave it out, or train one (char, word, bpe …)."
            )
        if opener is None:
            return Tokenizer.load(_saved_folder(Path(spec)))
        method, source = opener
        _check_types(method, options)
        opened: Tokenizer = method(source, **options)
        return opened

    kind, set_by_spec = _parse(spec)
    trained = _is_trained(kind)
    known = _options_of(kind, trained)
    for name, value in set_by_spec.items():
        if known is not None and name not in known:
            raise UsageError(f"'{spec}': the tokenizer '{kind.name}' takes no vocabulary size.")
        if name in options:
            what = "the vocabulary size" if name == "vocab_size" else name
            raise UsageError(
                f"'{spec}' and {name}={options[name]} both set {what}: give one of them."
            )
        options = {**options, name: value}
    _check_options(kind, options, known)
    _check_types(kind.train if trained else kind, options)
    if not trained:
        return kind(**options)
    if corpus is None:
        raise UsageError(
            f"The tokenizer '{spec}' has to be trained: give it a corpus, or open a saved one by "
            "its folder."
        )
    return kind.train([corpus] if isinstance(corpus, str) else corpus, **options)


# -- names ------------------------------------------------------------------------------------


def _registered() -> dict[str, str]:
    """Each name and where its class is, as "module:Class"."""
    found = dict(_BUILT_IN)
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=_order):
        other = found.setdefault(entry.name, entry.value)
        if other != entry.value:
            raise UsageError(
                f"Two tokenizers are named '{entry.name}': {other} and {entry.value}. "
                "Uninstall one of the packages."
            )
    return found


def _order(entry: EntryPoint) -> tuple[str, str]:
    return entry.name, entry.value


def _import_class(where: str) -> type[Tokenizer]:
    module_name, _, class_name = where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ToolkitError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and _is_part_of(error.name, module_name):
            raise UsageError(
                f"'{where}': there is no module {error.name}. Is it installed, or its folder on "
                "PYTHONPATH?"
            ) from error
        raise ToolkitError(
            f"'{where}': importing {module_name} failed ({type(error).__name__}: {error})."
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Tokenizer)):
        what = "has no" if found is None else "has no tokenizer class"
        raise UsageError(
            f"'{where}': the module {module_name} {what} {class_name}. "
            "Expected a subclass of toolkit.tokenizers.Tokenizer."
        )
    return found


def _is_part_of(missing: str | None, module_name: str) -> bool:
    """Whether the module that is missing is the one asked for or a package above it."""
    return missing is not None and f"{module_name}.".startswith(f"{missing}.")


# -- specs ------------------------------------------------------------------------------------


def _opener(spec: str) -> tuple[Callable[..., Tokenizer], str] | None:
    """The function that opens `spec`, and its argument; None for a spec of another kind."""
    prefix, _, source = spec.partition(":")
    if prefix not in _OPENERS:
        return None
    example, where = _OPENERS[prefix]
    if prefix in _registered() and not (_has_separator(source) or source.endswith(".model")):
        return None  # one to be trained
    if not source:
        raise UsageError(f"'{spec}' does not say which one: expected for example {example}.")
    module_name, _, path = where.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = getattr(found, name)
    return found, source


def _has_separator(path: str) -> bool:
    return "/" in path or os.sep in path


def _is_path(spec: str) -> bool:
    """Whether a spec is a path: it has a separator, or is a folder and no tokenizer's name."""
    if _has_separator(spec) or spec in (".", ".."):
        return True
    return spec != "" and Path(spec).is_dir() and spec not in _registered()


def _saved_folder(path: Path) -> Path:
    """The folder that holds a saved tokenizer: `path`, or what is inside the run folder `path`."""
    for folder in (path, path / RUN_TOKENIZER_FOLDER):
        if (folder / DESCRIPTION_FILE).exists():
            return folder
    for file in (path, path / "tokenizer.json"):
        if file.is_file():
            raise UsageError(
                f"{path} is not the folder of a saved tokenizer. A tokenizer.json of Hugging "
                f"Face's opens as hf:{file}"
            )
    return path  # opening it says what is missing


def _parse(spec: str) -> tuple[type[Tokenizer], dict[str, Any]]:
    """The class and the options that `name`, `name:argument` or `pkg.module:Class` names."""
    if spec in _ONLY_OPENED:
        raise UsageError(f"'{spec}' has to be told which file: write hf:PATH/tokenizer.json.")
    name, colon, argument = spec.partition(":")
    if colon and name in _registered():
        kind = find_tokenizer_class(name)
        return kind, kind.options_of_spec(argument)
    return find_tokenizer_class(spec), {}


# -- options ----------------------------------------------------------------------------------


def _is_trained(kind: type[Tokenizer]) -> bool:
    """Whether a class learns from text: it has a `train` of its own."""
    return inspect.getattr_static(kind, "train") is not inspect.getattr_static(Tokenizer, "train")


def _options_of(kind: type[Tokenizer], trained: bool) -> set[str] | None:
    """The names of the options of `train`, or of the constructor; None if any name will do."""
    return _names_of(kind.train) if trained else _names_of(kind, first=0)


def _names_of(make: Callable[..., Any], first: int = 1) -> set[str] | None:
    """The names of a function's parameters from number `first` on (before it: what it reads)."""
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(make).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    names = [p.name for p in parameters.values() if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    return set(names[first:])


def _check_options(kind: type[Tokenizer], options: Iterable[str], known: set[str] | None) -> None:
    for name in options:
        if known is None or name in known:
            continue
        if not known:
            raise UsageError(f"The tokenizer '{kind.name}' has no options, so not '{name}' either.")
        raise UnknownNameError(f"option of the tokenizer {kind.name}", name, known)


def _check_types(make: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check options against annotations that are plain types, as they come from a command line."""
    try:
        hints = typing.get_type_hints(make)
    except NameError:  # a name that is only there for type checkers
        return
    for name, value in options.items():
        hint = hints.get(name)
        is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        allowed = set(typing.get_args(hint)) if is_union else {hint}
        if not allowed <= _PLAIN_TYPES.keys() or type(value) in allowed:
            continue
        if float in allowed and type(value) is int:
            continue
        expected = " or ".join(_PLAIN_TYPES[kind] for kind in _PLAIN_TYPES if kind in allowed)
        raise UsageError(f"The option {name} is {value!r}; expected {expected}.")
