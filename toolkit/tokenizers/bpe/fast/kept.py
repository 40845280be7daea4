"""The folder of the compiled BPE code, as `toolkit.jit` keeps it."""

from pathlib import Path

from toolkit.jit import KernelFolder

KERNELS = KernelFolder(Path(__file__).parent, "the BPE code")
