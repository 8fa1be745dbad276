"""The example files of a command: reads and encodes each of them once."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from absl import logging

from theseus.inputs import cache, encoding, parallel_encoding, reading, rows, sources
from theseus.inputs.encoding import EncodedExamples
from theseus.inputs.long_texts import LongTexts
from theseus.inputs.reading import Example
from theseus.inputs.sources import ReadOptions
from theseus.inputs.tasks import Task
from theseus.inputs.unknown_words import UnknownWords
from theseus.runs.files import hash_bytes, hash_files, hash_text

if TYPE_CHECKING:
    from theseus.config.config import Config
    from tokenization import FullTokenizer

# The parts of a run config that encoded training data depend on, and the cache's own version.
_ENCODING_KEYS = ["train_data", "max_train_examples", "vocab", "task_name", "max_seq_length"]
_ENCODING_KEYS += ["do_lower_case", "labels", "columns", "header", "encoding", "skip_bad_lines"]
_ENCODING_KEYS += ["format", "delimiter", "tokenizer", "unlabelled_data"]
_CACHE_VERSION = 7


class ExampleFile(NamedTuple):
    """A file of labelled examples: its name in messages, its path, and its examples."""

    name: str
    path: str
    examples: list[Example]


class Data(object):
    """The examples of a command, for one tokenizer."""

    def __init__(self, config: Config, task: Task, form: ReadOptions) -> None:
        """Takes the flags, which name the files, and the form in which to read them."""
        self.task = task
        self.form = form
        self._config = config
        self._files: dict[str, list[Example]] = {}
        self._encoded: dict[str, EncodedExamples] = {}

    def paths(self, split: str) -> list[str]:
        """Returns the paths of a split's files; see sources.find_files."""
        return sources.find_files(self._config.data_dir, self.task, split)

    def hash_of(self, split: str) -> str:
        """Returns the SHA-256 of the first file of a split, "train" or "dev"."""
        path = self.paths(split)[0]
        return hash_bytes(self.form.content(path)) if split == "dev" else hash_files([path])

    def hash_of_unlabelled(self) -> str | None:
        """Returns the SHA-256 of --unlabelled_file; None if the flag is not given."""
        path = self._config.unlabelled_file
        return hash_files([path]) if path else None

    def labelled(self, path: str, name: str | None = None) -> ExampleFile:
        """Returns the ExampleFile of a path, whose lines must have labels."""
        if path not in self._files:
            self.form.content(path)  # Read once, so dev's hash and examples are of the same bytes.
            self._files[path] = reading.read_examples(path, self.task, form=self.form)
        return ExampleFile(name or path, path, self._files[path])

    def has(self, split: str) -> bool:
        """Returns whether a split's file exists."""
        return sources.has_split(self._config.data_dir, self.task, split)

    def format_of(self, path: str) -> str:
        """Returns the format of a file, one of rows.FORMATS."""
        return rows.format_of(path, self.form.format)

    def dev(self) -> ExampleFile:
        """Returns the ExampleFile of dev, which selects the best checkpoint."""
        return self.labelled(self.paths("dev")[0], "dev")

    def encode_file(self, file: ExampleFile, tokenizer: FullTokenizer) -> EncodedExamples:
        """Returns the EncodedExamples of an ExampleFile; logs once what the model cannot see."""
        if file.path not in self._encoded:
            encoded = self._encoded[file.path] = self.encode(file.examples, tokenizer)
            unseen = self.unseen(tokenizer)
            unseen.add(encoded, lambda: file.examples)
            unseen.log(file.name)
        return self._encoded[file.path]

    def unseen(self, tokenizer: FullTokenizer) -> Unseen:
        """Returns a new Unseen for a file to be encoded with a tokenizer."""
        return Unseen(tokenizer, self._config.max_seq_length)

    def encode(self, examples: list[Example], tokenizer: FullTokenizer) -> EncodedExamples:
        """Returns Examples as EncodedExamples."""
        length = self._config.max_seq_length
        return self._padded(encoding.encode_examples(examples, self.task, tokenizer, length))

    def _padded(self, encoded: EncodedExamples) -> EncodedExamples:
        longest = self._config.max_seq_length
        if self._config.pad_to_max_length:
            encoded.padded_lengths = (longest,)
        elif self._config.xla:
            encoded.padded_lengths = encoding.few_lengths(longest)
        return encoded

    def encode_train(
        self, tokenizer: FullTokenizer, run_config: Mapping[str, Any]
    ) -> EncodedExamples:
        """Returns the encoded training data, from the cache if possible.

        The examples of --unlabelled_file come last; their labels are unknown, see encode_labels.

        Args:
          tokenizer: a tokenization.FullTokenizer.
          run_config: dict, what defines the run.
        """

        def read() -> Iterator[Example]:
            path, count = self.paths("train")[0], self._config.max_train_examples
            labelled = reading.iterate_sample(path, self.task, count, self.form)
            return itertools.chain(labelled, self._unlabelled())

        def encode() -> Iterator[cache.Arrays]:
            encoder = parallel_encoding.Encoder(self.task, tokenizer, self._config.max_seq_length)
            return parallel_encoding.encode_parts(
                read(), encoder, self._config.num_encoding_processes
            )

        arrays = cache.through_cache(self.cache_file(run_config), EncodedExamples.ARRAYS, encode)
        encoded = self._padded(EncodedExamples(**arrays))
        unseen = self.unseen(tokenizer)
        unseen.add(encoded, read)
        unseen.log("train")
        return encoded

    def _unlabelled(self) -> Iterator[Example]:
        """Yields the Examples of --unlabelled_file; none has a label."""
        path = self._config.unlabelled_file
        if path:
            for example in reading.iterate_examples(path, self.task, False, self.form):
                yield Example(example.text_a, example.text_b, None, example.row)

    def cache_file(self, run_config: Mapping[str, Any], more: Sequence[str] = ()) -> str | None:
        """Returns the path in the cache of a result computed from the training data.

        Args:
          run_config: dict, what defines the run.
          more: list of str, what the result depends on beside the encoded examples.

        Returns:
          The path, named by a hash of all of these; None if there is no cache.
        """
        if not self._config.cache_dir:
            return None
        content = [_CACHE_VERSION] + [run_config[key] for key in _ENCODING_KEYS] + list(more)
        return os.path.join(self._config.cache_dir, hash_text(json.dumps(content)))


class Unseen(object):
    """Counts what the model cannot see of a file's texts: unknown words, and truncated ends."""

    def __init__(self, tokenizer: FullTokenizer, max_seq_length: int) -> None:
        """Takes the tokenizer and the length, int, that the file is encoded with."""
        self._unknown, self._long = UnknownWords(tokenizer), LongTexts(max_seq_length)

    def add(self, encoded: EncodedExamples, find_examples: Callable[[], Iterable[Example]]) -> None:
        """Counts them in one part of the file; see UnknownWords.add."""
        self._unknown.add(encoded, find_examples)
        self._long.add(encoded)

    def log(self, name: str) -> None:
        """Logs a warning for each kind that is not rare; `name` is the file's name in it."""
        for warning in (self._unknown.warning(name), self._long.warning(name)):
            if warning:
                logging.warning("%s", warning)
