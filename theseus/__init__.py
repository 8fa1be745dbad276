"""Compresses a BERT classifier by module replacing (BERT-of-Theseus, arXiv 2002.02925)."""

from typing import Any

__version__ = "0.18.0"


def __getattr__(name: str) -> Any:
    """Imports `Classifier` when it is first asked for: it needs TensorFlow."""
    if name == "Classifier":
        from theseus.classifier import Classifier

        return Classifier
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
