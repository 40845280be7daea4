"""Names and specs: what each opens, and the one line that each mistake gets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import RunError, ToolkitError, UnknownNameError, UsageError
from toolkit.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    available_tokenizers,
    load_tokenizer,
)
from toolkit.tokenizers.registry import class_of_spec, find_tokenizer_class, needs_corpus

TEXTS = ["to be or not to be, ", "that is the question: to be"]

PLUGIN = '''
from toolkit.tokenizers import CharTokenizer, ByteTokenizer

class Named(CharTokenizer):
    name = "{module}:Named"

class Nameless(CharTokenizer):
    """Calls itself "char"."""

class Registered(CharTokenizer):
    name = "reverse"

NUMBER = 7
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported, with tokenizers in it."""
    module = f"plugin_{tmp_path.name}"  # another in each test: imported modules stay
    (tmp_path / f"{module}.py").write_text(PLUGIN.format(module=module))
    monkeypatch.syspath_prepend(str(tmp_path))
    return module


def install(folder: Path, package: str, entry_points: dict[str, str]) -> None:
    """What pip leaves behind of a package that offers tokenizers."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[toolkit.tokenizers]", *lines, ""]))


# -- names ------------------------------------------------------------------------------------


def test_built_in_names() -> None:
    assert {"bpe", "byte", "char", "word"} <= set(available_tokenizers())
    assert available_tokenizers() == sorted(available_tokenizers())
    assert find_tokenizer_class("char") is CharTokenizer
    assert find_tokenizer_class("word") is WordTokenizer
    assert find_tokenizer_class("byte") is ByteTokenizer
    assert find_tokenizer_class("bpe") is BPETokenizer
    for name in available_tokenizers():
        assert find_tokenizer_class(name).name == name


@pytest.mark.parametrize("spec", ["bep", "chars", "", "bep:4096"])
def test_an_unknown_name(spec: str) -> None:
    for call in (find_tokenizer_class, needs_corpus, load_tokenizer):
        with pytest.raises(ToolkitError) as caught:
            call(spec)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
    if ":" not in spec:
        with pytest.raises(UnknownNameError, match="Available: bpe, byte, char"):
            load_tokenizer(spec, TEXTS)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, toolkit.tokenizers as t; t.load_tokenizer; t.available_tokenizers();"
        "print([m for m in ('torch', 'numba', 'regex', 'tokenizers', 'tiktoken', "
        "'toolkit.tokenizers.bpe', 'toolkit.tokenizers.word') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_the_package_is_there() -> None:
    import toolkit.tokenizers

    for name in toolkit.tokenizers.__all__:
        assert getattr(toolkit.tokenizers, name).__module__.startswith("toolkit.tokenizers.")
    assert dir(toolkit.tokenizers) == toolkit.tokenizers.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = toolkit.tokenizers.nothing


# -- training specs ---------------------------------------------------------------------------


def test_a_corpus_is_any_iterable_of_texts_or_one_text() -> None:
    from_list = load_tokenizer("char", TEXTS)
    assert from_list.encode("bet") == CharTokenizer.train(TEXTS).encode("bet")
    assert load_tokenizer("char", iter(TEXTS)).fingerprint() == from_list.fingerprint()
    assert load_tokenizer("char", "".join(TEXTS)).fingerprint() == from_list.fingerprint()
    # One document, not one for each character.
    assert load_tokenizer("word", "to be").decode([0]) == " be"


def test_options_reach_the_tokenizer() -> None:
    tokenizer = load_tokenizer("word", TEXTS, unknown="unk", rule="whitespace")
    assert isinstance(tokenizer, WordTokenizer)
    assert (tokenizer.unknown, tokenizer.rule) == ("unk", "whitespace")


def test_byte_needs_no_corpus_and_takes_one() -> None:
    assert not needs_corpus("byte")
    assert class_of_spec("byte") is ByteTokenizer
    assert load_tokenizer("byte").encode("é") == [0xC3, 0xA9]
    assert load_tokenizer("byte", TEXTS).encode("é") == [0xC3, 0xA9]


@pytest.mark.parametrize("spec", ["char", "word", "bpe", "bpe:300", "word:9"])
def test_a_spec_that_needs_training_says_so(spec: str) -> None:
    assert needs_corpus(spec)
    with pytest.raises(UsageError, match=f"'{spec}' has to be trained: give it a corpus"):
        load_tokenizer(spec)


@pytest.mark.parametrize(
    ("spec", "vocab_size"), [("bpe:260", 260), ("word:5", 5), ("word:1k", 10), ("word:2K", 10)]
)
def test_a_vocabulary_size_in_the_spec(spec: str, vocab_size: int) -> None:
    # Of words the text has nine, and there is <unk>.
    assert load_tokenizer(spec, ["a b c d e f g h i"]).vocab_size == min(vocab_size, 260)


def test_1k_is_1024() -> None:
    text = " ".join(f"w{number}" for number in range(5000))
    assert load_tokenizer("word:1k", text).vocab_size == 1024
    assert load_tokenizer("word:4K", text).vocab_size == 4096
    assert load_tokenizer("word:1000", text).vocab_size == 1000


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("bpe:300", {"vocab_size": 300}, "both set the vocabulary size"),
        ("char:300", {}, "'char' takes no vocabulary size"),
        ("byte:300", {}, "'byte' takes no vocabulary size"),
        ("bpe:", {}, "'' is not a vocabulary size. Write for example bpe:4096 or bpe:4k"),
        ("bpe:big", {}, "'big' is not a vocabulary size"),
        ("word:4kb", {}, "'4kb' is not a vocabulary size"),
        ("bpe:-1", {}, "'-1' is not a vocabulary size"),
        ("char", {"unkown": "unk"}, "No option of the tokenizer char 'unkown'. Did you mean 'unk"),
        ("bpe", {"unknown": "unk"}, "No option of the tokenizer bpe 'unknown'"),
        ("char", {"texts": TEXTS}, "No option of the tokenizer char 'texts'"),
        ("tiktoken:gpt2", {"unknown": "unk"}, "the option 'unknown' cannot change it"),
        ("some/folder/", {"rule": "words"}, "the option 'rule' cannot change it"),
        ("hf:", {}, "'hf:' does not say which one: expected for example hf:PATH"),
        ("tiktoken:", {}, "'tiktoken:' does not say which one"),
    ],
)
def test_specs_and_options_that_do_not_fit(
    spec: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_tokenizer(spec, TEXTS, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# -- saved ones -------------------------------------------------------------------------------


def test_a_saved_folder_and_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = CharTokenizer.train(TEXTS)
    tokenizer.save(tmp_path / "mine")
    tokenizer.save(tmp_path / "run" / "tokenizer")
    monkeypatch.chdir(tmp_path)
    for spec in ("mine/", "./mine", "mine", "run/", tmp_path / "mine", str(tmp_path / "run")):
        assert not needs_corpus(spec)
        assert class_of_spec(spec) is None
        assert load_tokenizer(spec).fingerprint() == tokenizer.fingerprint()
        assert load_tokenizer(spec, TEXTS).fingerprint() == tokenizer.fingerprint()


def test_a_name_wins_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WordTokenizer.train(TEXTS).save(tmp_path / "char")
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_tokenizer("char", TEXTS), CharTokenizer)
    assert isinstance(load_tokenizer("./char"), WordTokenizer)


def test_nothing_saved_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No saved tokenizer at .*missing"):
        load_tokenizer(f"{tmp_path}/missing/")
    with pytest.raises(RunError, match=r"toolkit\.json is missing"):
        load_tokenizer(tmp_path)


def test_a_file_of_hugging_faces_without_the_prefix(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    for path in (tmp_path, file):
        with pytest.raises(UsageError) as caught:
            load_tokenizer(path)
        assert str(caught.value).endswith(f"opens as hf:{file}")


def test_a_tokenizer_json_opens_with_the_prefix(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("bpe:280", TEXTS)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(tokenizer.to_huggingface()))
    assert not needs_corpus(f"hf:{file}")
    opened = load_tokenizer(f"hf:{file}")
    assert isinstance(opened, BPETokenizer)
    assert opened.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


# -- classes of others ------------------------------------------------------------------------


def test_a_class_by_its_module(plugin: str, tmp_path: Path) -> None:
    spec = f"{plugin}:Named"
    assert needs_corpus(spec)
    kind = class_of_spec(spec)
    assert kind is not None
    assert kind.closed_vocabulary
    tokenizer = load_tokenizer(spec, TEXTS, unknown="unk")
    assert type(tokenizer).__name__ == "Named"
    tokenizer.save(tmp_path / "saved")
    assert type(Tokenizer.load(tmp_path / "saved")) is type(tokenizer)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{plugin}:Nameless", "calls itself 'char', a name that does not lead back to it"),
        ("{plugin}:Missing", "has no Missing. Expected a subclass"),
        ("{plugin}:NUMBER", "has no tokenizer class NUMBER"),
        ("nowhere_at_all.tokens:Mine", "there is no module nowhere_at_all. Is it installed"),
        ("{plugin}.inner:Mine", "there is no module {plugin}.inner"),
        ("json:JSONDecoder", "has no tokenizer class JSONDecoder"),
    ],
)
def test_a_class_that_will_not_do(plugin: str, spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_tokenizer(spec.format(plugin=plugin), TEXTS)
    assert message.format(plugin=plugin) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_at_all", "failed (ModuleNotFoundError: No module named 'nowhere_at_all')"),
        ("1 / 0", "failed (ZeroDivisionError: division by zero)"),
        ("def (", "failed (SyntaxError"),
    ],
)
def test_a_module_that_does_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    (tmp_path / "broken_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    with pytest.raises(ToolkitError) as caught:
        load_tokenizer("broken_plugin:Mine", TEXTS)
    assert f"importing broken_plugin {message}" in str(caught.value)
    assert caught.value.exit_code == 1


def test_an_entry_point_is_a_name_like_any_other(plugin: str, tmp_path: Path) -> None:
    install(tmp_path, "reversing", {"reverse": f"{plugin}:Registered"})
    assert "reverse" in available_tokenizers()
    tokenizer = load_tokenizer("reverse", TEXTS)
    assert type(tokenizer).__name__ == "Registered"
    assert type(load_tokenizer(f"{plugin}:Registered", TEXTS)) is type(tokenizer)
    tokenizer.save(tmp_path / "saved")
    assert type(load_tokenizer(tmp_path / "saved")) is type(tokenizer)


def test_entry_points_do_not_take_names_that_others_have(plugin: str, tmp_path: Path) -> None:
    install(tmp_path, "first", {"mine": f"{plugin}:Named"})
    install(tmp_path, "second", {"mine": f"{plugin}:Named"})
    assert "mine" in available_tokenizers()  # one and the same
    install(tmp_path, "third", {"char": f"{plugin}:Nameless"})
    for call in (available_tokenizers, lambda: load_tokenizer("byte")):
        with pytest.raises(UsageError, match=r"Two tokenizers are named 'char': toolkit.*Nameless"):
            call()


def test_an_entry_point_and_its_class_have_one_name(plugin: str, tmp_path: Path) -> None:
    install(tmp_path, "other", {"backwards": f"{plugin}:Registered"})
    with pytest.raises(UsageError, match=r"'backwards' .* calls itself 'reverse'"):
        find_tokenizer_class("backwards")
