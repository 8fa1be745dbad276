"""The package theseus.tools: what a checkout has in scripts/, once it is installed."""

import os
import sys

# `python -m theseus.tools.NAME` looks first in the folder that it is called in, where a
# run_classifier.py may be another's. In a checkout it is the same.
if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]
