"""The files of a command: each is read once, and encoded once."""

import collections
import json
import os

from absl import logging

from theseus.inputs import encoding, reading, unknown_words
from theseus.runs.files import hash_bytes, hash_files, hash_text

# What encoded training data depend on, out of a run's definition, and on this program.
_ENCODING_KEYS = ("train_data", "max_train_examples", "vocab", "task_name", "max_seq_length")
_ENCODING_KEYS += ("do_lower_case", "labels", "columns", "header", "encoding", "skip_bad_lines")
_CACHE_VERSION = 3

ExampleFile = collections.namedtuple("ExampleFile", "name path examples")
"""A file of labelled examples: what to call it, where it is, and the list of Examples."""


class Data(object):
    """The examples of a command, for one tokenizer."""

    def __init__(self, options, max_seq_length, task, form):
        """Takes what says where they are and how they are read.

        Args:
          options: DataOptions.
          max_seq_length: int.
          task: a tasks.Task.
          form: a reading.FileForm.
        """
        self.task = task
        self.form = form
        self._options = options
        self._max_seq_length = max_seq_length
        self._files, self._encoded = {}, {}

    def paths(self, split):
        """Returns the paths of a split's files; see reading.find_files."""
        return reading.find_files(self._options.data_dir, self.task, split)

    def hash_of(self, split):
        """Returns the SHA-256 of what training reads of a split, "train" or "dev"."""
        path = self.paths(split)[0]
        return hash_bytes(self.form.content(path)) if split == "dev" else hash_files([path])

    def labelled(self, path, name=None):
        """Returns the ExampleFile of a path, whose lines must have labels."""
        if path not in self._files:
            self._files[path] = reading.read_examples(path, self.task, form=self.form)
        return ExampleFile(name or path, path, self._files[path])

    def dev(self):
        """Returns the ExampleFile that the best checkpoint is chosen on."""
        self.hash_of("dev")  # By which its bytes are read, once for the hash and the examples.
        return self.labelled(self.paths("dev")[0], "dev")

    def encode_file(self, file, tokenizer):
        """Returns the EncodedExamples of an ExampleFile."""
        if file.path not in self._encoded:
            self._encoded[file.path] = self.encode(file.examples, tokenizer)
        return self._encoded[file.path]

    def encode(self, examples, tokenizer):
        """Returns Examples as EncodedExamples."""
        length = self._max_seq_length
        return self._padded(encoding.encode_examples(examples, self.task, tokenizer, length))

    def _padded(self, encoded):
        if self._options.pad_to_max_length:
            encoded.padded_length = self._max_seq_length
        return encoded

    def encode_train(self, tokenizer, definition):
        """Returns the training data encoded, from the cache where they were encoded before.

        Args:
          tokenizer: a tokenization.FullTokenizer.
          definition: dict, what defines the run.
        """

        def read():
            examples = reading.read_examples(self.paths("train")[0], self.task, form=self.form)
            return reading.sample_examples(examples, self._options.max_train_examples)

        def encode():
            return self.encode(read(), tokenizer)

        if self._options.cache_dir:
            content = [_CACHE_VERSION] + [definition[key] for key in _ENCODING_KEYS]
            name = hash_text(json.dumps(content)) + ".npz"
            path = os.path.join(self._options.cache_dir, name)
            encoded = self._padded(encoding.through_cache(path, encode))
        else:
            encoded = encode()
        unknown = unknown_words.UnknownWords(tokenizer)
        unknown.add(encoded, read)
        warn_of_unknown(unknown, "train")
        return encoded


def warn_of_unknown(unknown, name):
    """Logs what UnknownWords say of a file."""
    warning = unknown.warning(name)
    if warning:
        logging.warning("%s", warning)
