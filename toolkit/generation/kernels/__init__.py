"""Compiled code of generation: see `toolkit.generation.engine`, which runs it."""
