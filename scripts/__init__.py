"""The package theseus.tools: the installed form of a checkout's folder scripts/."""

import os
import sys

# `python -m theseus.tools.NAME` first looks for modules in the current folder, where another
# program's run_classifier.py may lie. In a checkout it is this program's.
if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]
