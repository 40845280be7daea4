"""ONNX and TorchScript: the same logits as torch, for shapes that were not traced."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from export_models import make_model

from toolkit.errors import MissingExtraError, UsageError
from toolkit.exporting import export, onnx_file

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("bigram", {}),
    ("average-matmul", {"position": "learned"}),
    ("average-softmax", {}),
    ("single-head", {}),
    ("gpt", {"preset": "gpt2", "dropout": 0.1}),
    ("gpt", {"preset": "modern", "n_kv_head": 1, "tie_embeddings": False}),
    ("gpt", {"norm": "layernorm", "mlp": "gelu"}),
]
SHAPES = [(1, 1), (1, 24), (2, 5), (4, 13)]


def ids(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 40, shape, generator=torch.Generator().manual_seed(5))


@torch.inference_mode()
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("name", "options"), MODELS)
def test_torchscript_takes_any_shape(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = make_model(name, 40, **options)
    exported = export(model, "torchscript", tmp_path)
    assert exported.path == tmp_path / "model.pt"
    loaded = torch.jit.load(tmp_path / "model.pt")
    for shape in SHAPES:
        assert torch.equal(loaded(ids(shape)), model(ids(shape)).logits), shape


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "options"),
    [MODELS[0], *[pytest.param(*m, marks=pytest.mark.slow) for m in MODELS[1:]]],
)
def test_onnx_runtime_computes_the_same(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = make_model(name, 40, **options)
    exported = export(model, "onnx", tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert b"toolkit" not in (tmp_path / "m.onnx").read_bytes()  # no path of this machine
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == (
        "input_ids",
        "tensor(int64)",
        ["batch", "time"],
    )
    assert (made.name, made.shape) == ("logits", ["batch", "time", 40])
    for shape in SHAPES:
        logits = session.run(None, {"input_ids": ids(shape).numpy()})[0]
        # float32 in another order, on logits of a size near 1.
        torch.testing.assert_close(
            torch.from_numpy(logits), model(ids(shape)).logits, atol=1e-5, rtol=0
        )
    assert exported.largest_difference is not None
    assert exported.largest_difference <= 1e-5


PAIRS: list[dict[str, Any]] = [
    {"norm_order": "post", "dropout": 0.1},
    {"norm_order": "pre", "mlp": "swiglu", "source_vocab_size": 30},  # in no layout of theirs
]


def source_of(shape: tuple[int, int]) -> torch.Tensor:
    """Sources of other lengths than the targets, all but the first of them filled up."""
    rows, length = shape[0], shape[1] * 2 % 23 + 1
    generator = torch.Generator().manual_seed(6)
    source = torch.randint(0, 27, (rows, length), generator=generator)
    source[1:, length // 2 + 1 :] = 29
    return source


@torch.inference_mode()
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("options", PAIRS)
def test_torchscript_of_a_source_and_a_target(options: dict[str, Any], tmp_path: Path) -> None:
    model: Any = make_model("encoder-decoder", 30, **options)
    exported = export(model, "torchscript", tmp_path)
    assert exported.largest_difference == 0.0
    loaded = torch.jit.load(tmp_path / "model.pt")
    for shape in SHAPES:
        source, target = source_of(shape), ids(shape) % 30
        assert torch.equal(loaded(source, target), model(target, None, source).logits), shape


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("options", PAIRS)
def test_onnx_of_a_source_and_a_target(options: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model: Any = make_model("encoder-decoder", 30, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported = export(model, "onnx", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert {given.name: given.shape for given in session.get_inputs()} == {
        "input_ids": ["batch", "source"],
        "decoder_input_ids": ["batch", "time"],
    }
    for shape in SHAPES:
        source, target = source_of(shape), ids(shape) % 30
        feed = {"input_ids": source.numpy(), "decoder_input_ids": target.numpy()}
        logits = torch.from_numpy(session.run(["logits"], feed)[0])
        expected = model(target, None, source).logits
        # float32 in another order.
        torch.testing.assert_close(
            logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max())
        )
    assert exported.largest_difference is not None
    assert exported.largest_difference < 1e-3


def test_large_weights_go_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_file, "MAX_ONE_FILE", 1000)
    model = make_model("bigram", 40)
    exported = export(model, "onnx", tmp_path / "m.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert {path.name for path in exported.files} == {"m.onnx", "m.onnx.data"}
    assert exported.num_bytes > 40 * 40 * 4
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    logits = session.run(None, {"input_ids": ids((2, 5)).numpy()})[0]
    assert torch.equal(torch.from_numpy(logits), model(ids((2, 5))).logits)


@pytest.mark.parametrize("format", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_loop_over_positions_is_refused(format: str, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    with pytest.raises(UsageError, match="average-matmul computes the same"):
        export(make_model("average-loop", 40), format, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_context_of_one_token(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    exported = export(make_model("bigram", 40, block_size=1), "onnx", tmp_path / "m.onnx")
    assert exported.largest_difference == 0.0


def test_no_warning_reaches_the_user(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(make_model("bigram", 40), "torchscript", tmp_path / "m.pt")
        export(make_model("bigram", 40), "onnx", tmp_path / "m.onnx")


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "gguf", None)
    for format in ("onnx", "gguf"):
        with pytest.raises(MissingExtraError, match=r"pip install 'toolkit\[export\]'"):
            export(make_model("gpt", 40), format, tmp_path / "m", with_tokenizer=False)
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_runtime_the_checker_is_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    exported = export(make_model("bigram", 40), "onnx", tmp_path / "m.onnx")
    assert exported.largest_difference is None
    assert "onnxruntime is not installed" in exported.checked
