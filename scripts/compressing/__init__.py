"""The parts of compress.py: its settings, the plan, the commands, and the table that chooses."""

import os

ENVIRONMENT = dict(os.environ)  # Copied before the import of TensorFlow adds to it.
