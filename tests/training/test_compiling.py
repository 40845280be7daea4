"""torch.compile: the same training, the same names, and one line where it cannot be had."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import T, assert_same, config, dataset, gpt, weights
from torch._dynamo.utils import counters
from two_processes import encoder_decoder, pairs

import toolkit
from toolkit.errors import TrainingError
from toolkit.models import load_pretrained, save_pretrained
from toolkit.training import Compiled, Finished, StepDone, Trainer, compiling
from toolkit.training.compiling import compiling_pays

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile as always, but for the last part, which writes C++: that takes minutes."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "chosen", [{}, {"label_smoothing": 0.1, "gradient_checkpointing": True, "dtype": "bfloat16"}]
)
def test_a_compiled_training_learns_the_same_under_the_same_names(
    tmp_path: Path, chosen: dict[str, Any]
) -> None:
    options = config(max_steps=6, eval_every=3, **chosen)
    plain = Trainer(gpt(), dataset(), options)
    expected = [event.loss for event in plain.run() if isinstance(event, StepDone)]
    compiled = Trainer(
        gpt(),
        dataset(),
        config(max_steps=6, eval_every=3, compile=True, **chosen),
        folder=tmp_path,
        save_best=lambda model: save_pretrained(model, tmp_path / "best"),
    )
    events = list(compiled.run())
    assert isinstance(events[0], Compiled)
    assert events[0].problem is None
    found = [event.loss for event in events if isinstance(event, StepDone)]
    # The compiler may order sums otherwise: float32, or bfloat16 with its 8 bits.
    assert found == pytest.approx(expected, rel=2e-3 if chosen else 1e-5)
    assert compiled._stepper._forward is not compiled.model

    names = set(gpt().state_dict())
    assert set(compiled.model.state_dict()) == names
    resumed = Trainer(gpt(), dataset(), options, folder=tmp_path)
    resumed.load_checkpoint()
    assert_same(weights(resumed.model), weights(compiled.model))
    assert set(load_pretrained(tmp_path / "best").state_dict()) == names


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_a_compiled_run_resumes_to_the_bit(tmp_path: Path) -> None:
    options = config(max_steps=6, compile=True)
    whole = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "whole")
    list(whole.run())
    for event in Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "parts").run():
        if isinstance(event, StepDone) and event.step == 5:
            break  # as if killed after the checkpoint of step 4
    second = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "parts")
    second.load_checkpoint()
    assert second.step == 4
    list(second.run())
    assert_same(weights(whole.model), weights(second.model))


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_pairs_of_all_lengths_are_one_program() -> None:
    options = {"max_steps": 12, "batch_size": 5, "eval_every": 6}
    plain = Trainer(encoder_decoder(), pairs(), config(**options))
    expected = [event.loss for event in plain.run() if isinstance(event, StepDone)]
    torch._dynamo.reset()
    counters.clear()
    compiled = Trainer(encoder_decoder(), pairs(), config(compile=True, **options))
    events = list(compiled.run())
    assert isinstance(events[0], Compiled)
    assert events[0].problem is None
    found = [event.loss for event in events if isinstance(event, StepDone)]
    assert found == pytest.approx(expected, rel=1e-5)  # sums in float32, perhaps in another order
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    loader = pairs().loader(batch_size=5, block_size=T, seed=0)
    batches = [loader.next_batch() for _ in range(12)]
    assert len({(ids.shape, source.shape) for ids, _, source in batches}) > 3


def broken(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no C++ compiler\nwas found on this machine")


def test_where_it_fails_the_explicit_wish_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", broken)
    for model, data in ((gpt(), dataset()), (encoder_decoder(), pairs())):
        with pytest.raises(TrainingError, match=r"--compile: .*no C\+\+ compiler.*--no-comp") as e:
            list(Trainer(model, data, config(compile=True)).run())
        assert "\n" not in str(e.value)


def test_where_it_fails_and_nobody_asked_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", broken)
    monkeypatch.setattr("toolkit.training.trainer.compiling_pays", lambda *_: True)
    plain, tried = gpt(0.3), gpt(0.3)
    list(Trainer(plain, dataset(), config(compile=False)).run())
    events = list(Trainer(tried, dataset(), config()).run())
    assert isinstance(events[0], Compiled)
    assert "no C++ compiler" in str(events[0].problem)
    assert isinstance(events[-1], Finished)
    assert_same(weights(plain), weights(tried))  # the attempt drew no random numbers


def test_where_it_pays() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert compiling_pays(config(max_steps=5000), cuda)
    assert not compiling_pays(config(max_steps=5000), cpu)
    assert not compiling_pays(config(max_steps=500), cuda)
    assert not compiling_pays(config(max_steps=5000, max_time=60.0), cuda)
    assert compiling_pays(config(max_steps=None, max_time=3600.0), cuda)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_a_run_that_was_really_compiled_opens_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    code = f"""
import toolkit
from toolkit.corpora import Corpus
text = Corpus.from_text("to be or not to be.\\n" * 50, name="text")
toolkit.train(
    text, "char", model="average-matmul", n_embd=8, block_size=8, batch_size=2, max_steps=3,
    device="cpu", compile=True, out={str(tmp_path / "run")!r},
)
"""
    # In a process of its own: what other tests have imported, setuptools' distutils for one, can
    # keep torch from finding a compiler.
    # Without vectors: which of them this machine has is found out by compiling, for ten seconds.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "TORCHINDUCTOR_VEC_ISA_OK": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = toolkit.Run.open(tmp_path / "run")
    assert run.info.training["compile"] is True
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    assert not [name for name in run.model.state_dict() if name.startswith(("_orig_mod", "module"))]
    resumed = toolkit.resume(tmp_path / "run", max_steps=5, compile=False)
    assert resumed.info.result["steps"] == 5
