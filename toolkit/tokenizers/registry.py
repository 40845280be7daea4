"""From a name or a spec to a tokenizer. A spec is how a user says which one, in a single word:

    char  word  byte  bpe            trained on a corpus (byte needs none)
    bpe:4096  bpe:4k  word:4k        with a vocabulary size; 1k is 1024
    PATH/                            one that was saved, or the one inside a run folder
    hf:PATH/tokenizer.json           byte-level BPE in Hugging Face's format
    tiktoken:cl100k_base             an encoding of tiktoken
    pkg.module:Class                 any subclass of Tokenizer that can be imported

Other packages add names with an entry point in the group `toolkit.tokenizers`. A tokenizer's module
is imported when the tokenizer is asked for, not before.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterable, Mapping
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
}
# Prefixes of specs that open what others made: methods of BPETokenizer.
_OPENERS = {"hf": "from_file", "tiktoken": "from_tiktoken"}
_CLASS_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SIZE = re.compile(r"([0-9]+)(k?)", re.IGNORECASE)


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
    if name in registered:
        found = _import_class(registered[name])
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
        if options:
            raise UsageError(
                f"'{spec}' opens a tokenizer as it was made: the option '{min(options)}' cannot "
                "change it. Leave it out, or train one (char, word, bpe …)."
            )
        if opener is None:
            return Tokenizer.load(_saved_folder(Path(spec)))
        method, source = opener
        opened: Tokenizer = getattr(find_tokenizer_class("bpe"), method)(source)
        return opened

    kind, vocab_size = _parse(spec)
    trained = _is_trained(kind)
    known = _options_of(kind, trained)
    if vocab_size is not None:
        if known is not None and "vocab_size" not in known:
            raise UsageError(f"'{spec}': the tokenizer '{kind.name}' takes no vocabulary size.")
        if "vocab_size" in options:
            raise UsageError(
                f"'{spec}' and vocab_size={options['vocab_size']} both set the vocabulary size: "
                "give one of them."
            )
        options = {**options, "vocab_size": vocab_size}
    _check_options(kind, options, known)
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


def _opener(spec: str) -> tuple[str, str] | None:
    """The method of BPETokenizer that opens `spec`, and its argument."""
    prefix, _, source = spec.partition(":")
    if prefix not in _OPENERS:
        return None
    if not source:
        example = "hf:PATH/tokenizer.json" if prefix == "hf" else "tiktoken:cl100k_base"
        raise UsageError(f"'{spec}' does not say which one: expected for example {example}.")
    return _OPENERS[prefix], source


def _is_path(spec: str) -> bool:
    """Whether a spec is a path: it has a separator, or is a folder and no tokenizer's name."""
    if "/" in spec or os.sep in spec or spec in (".", ".."):
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


def _parse(spec: str) -> tuple[type[Tokenizer], int | None]:
    """The class and the vocabulary size that `name`, `name:size` or `pkg.module:Class` names."""
    name, colon, size = spec.partition(":")
    if colon and name in _registered():
        return find_tokenizer_class(name), _parse_size(spec, size)
    return find_tokenizer_class(spec), None


def _parse_size(spec: str, size: str) -> int:
    match = _SIZE.fullmatch(size)
    if match is None:
        name = spec.partition(":")[0]
        raise UsageError(
            f"'{spec}': {size!r} is not a vocabulary size. Write for example {name}:4096 or "
            f"{name}:4k."
        )
    return int(match[1]) * (1024 if match[2] else 1)


# -- options ----------------------------------------------------------------------------------


def _is_trained(kind: type[Tokenizer]) -> bool:
    """Whether a class learns from text: it has a `train` of its own."""
    return inspect.getattr_static(kind, "train") is not inspect.getattr_static(Tokenizer, "train")


def _options_of(kind: type[Tokenizer], trained: bool) -> set[str] | None:
    """The names of the options of `train`, or of the constructor; None if any name will do."""
    make = kind.train if trained else kind
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(make).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    names = [p.name for p in parameters.values() if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    return set(names[1:] if trained else names)  # the first of `train` are the texts


def _check_options(kind: type[Tokenizer], options: Iterable[str], known: set[str] | None) -> None:
    for name in options:
        if known is None or name in known:
            continue
        if not known:
            raise UsageError(f"The tokenizer '{kind.name}' has no options, so not '{name}' either.")
        raise UnknownNameError(f"option of the tokenizer {kind.name}", name, known)
