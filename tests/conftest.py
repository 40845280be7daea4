"""For the whole suite: one thread for torch, and compiled code before many tests want it.

The models of the tests are tiny. Several threads only wait for each other, and where tests run
side by side they wait for a long time.

Where they do, each worker would compile for itself what is not compiled yet, all at the same time.
So it is compiled beside them, once, while they collect their tests.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

COMPILE_BPE = """
from toolkit.tokenizers.bpe.fast import counting, decoding, encoding, merging, replaying
merging.prepare_merging()
counting.prepare_counting()
encoding.prepare_encoding()
encoding.prepare_ranks()
decoding.prepare_decoding()
replaying.prepare_replaying()
"""
COMPILE_GENERATION = """
import toolkit
model = toolkit.create_model("gpt", 9, size="nano", block_size=8)
for weights in ("float32", "bfloat16", "int8"):
    generator = toolkit.Generator(model, weights=weights, engine="compiled")
    generator.generate_ids([1, 2, 3], max_new_tokens=2, strategy="greedy")
"""


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", default=None):
        return
    for code in (COMPILE_BPE, COMPILE_GENERATION):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        config.add_cleanup(process.wait)
        config.add_cleanup(process.kill)  # first


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium. It has the event loop of this thread, so it ends with the module.

    It is a program of the machine, which pip does not install: without it there is nothing to test.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()
