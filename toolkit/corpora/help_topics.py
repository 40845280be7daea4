"""Python's own documentation of the language, from the standard library: a text without a download.

It is what `help("while")` prints: the chapters of the language reference, in English with code.
"""

from __future__ import annotations

from toolkit.errors import CorpusError


def help_topics() -> list[str]:
    """One document a topic, sorted by the topics' names, each ending in an empty line.

    The text differs between versions of Python, and so does its hash.

    Raises:
        CorpusError: this Python was installed without its help texts.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise CorpusError(
            "This Python was installed without its help texts (pydoc_data): choose another corpus."
        ) from None
    return [topics[name].rstrip("\n") + "\n\n" for name in sorted(topics)]
