"""Texts to learn from: a few that have names, and any that the user has.

>>> from toolkit.corpora import load_corpus
>>> load_corpus("python-help").text()[:22]
'The "assert" statement'
"""

from __future__ import annotations

from toolkit.corpora.catalogue import DEFAULT_CORPUS, CorpusInfo, list_corpora
from toolkit.corpora.corpus import Corpus
from toolkit.corpora.registry import load_corpus

__all__ = ["DEFAULT_CORPUS", "Corpus", "CorpusInfo", "list_corpora", "load_corpus"]
