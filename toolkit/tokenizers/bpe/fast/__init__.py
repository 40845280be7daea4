"""The byte-level BPE once more, compiled by Numba: the same results, some hundred times as fast.

    kept.py             what names this folder, for `toolkit.jit` to keep what was compiled
    memory.py           loads of many bytes at once; keys of byte strings
    unicode_classes.py  the class of every character
    scanners.py         split patterns, one character after the other
    blocks.py           split patterns, 64 bytes at once
    documents.py        texts as one buffer
    counting.py         distinct pre-tokens and their counts
    merging.py          learning merges
    tables.py           a vocabulary as arrays; merging one pre-token
    encoding.py         texts to ids

Nothing here is imported before it is needed: Numba alone takes half a second. The oracles are
`trainer.py`, `encoder.py` and `reference.py` beside this folder, in plain Python.
"""
