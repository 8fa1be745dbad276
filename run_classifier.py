"""Compresses a BERT classifier by module replacing (BERT-of-Theseus).

  python run_classifier.py --do_train --do_eval --suc_layers 6                   # stage 1
  python run_classifier.py --do_train --do_eval --suc_layers 6 --finetune_suc    # stage 2

--finetune_pre, before both, fine-tunes the predecessor itself (stage 0). The flags are declared
in theseus/config/config.py.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any, NoReturn, Sequence

from absl import app, flags, logging

import theseus
from theseus.commands import command
from theseus.config import flag, recorded, rules
from theseus.config import help as help_lib
from theseus.config.config import GROUPS, Config, all_declarations, resolve
from theseus.errors import UserError

FLAGS = flags.FLAGS
flag.define(GROUPS, __name__)
_HELP = {"-h": False, "--help": False, "-help": False, "-?": False}
_HELP.update({"--helpfull": True, "-helpfull": True, "--helpshort": False})


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; a mistake in it ends in one line and exit status 1."""
    for argument in argv[1:]:
        if argument in _HELP:
            print(help_lib.help_text(os.path.basename(argv[0]), _HELP[argument]))
            sys.exit(0)
    try:
        argv = argv[:1] + FLAGS.read_flags_from_files(argv[1:], force_gnu=False)
        for argument in argv[1:]:
            if argument.startswith("\ufeff"):
                fail("--flagfile: begins with a byte-order mark; save it as UTF-8 without one")
            if re.search("[\ud800-\udfff]", argument):  # TensorFlow cannot open such a file.
                fail("%s: is not valid UTF-8; rename the file or folder" % ascii(argument))
        return FLAGS(argv)
    except UnicodeDecodeError as error:
        fail("--flagfile: is not valid UTF-8: %s; save it as UTF-8" % error)
    except flags.IllegalFlagValueError as error:
        fail(re.sub("^flag ", "", str(error)))
    except flags.Error as error:
        if argv[1:] and not argv[1].startswith("-"):
            check_positional(argv[1:])
        fail(_unknown(error) if isinstance(error, flags.UnrecognizedFlagError) else error)


def _unknown(error: flags.UnrecognizedFlagError) -> str:
    """Returns the message about an unknown flag, with absl's suggestions of similar ones."""
    similar = re.search(r"Did you mean: (.*) \?$", str(error))
    meant = "did you mean --%s? See" % similar[1].replace(", ", ", --") if similar else "see"
    return "unknown flag --%s; %s --help" % (error.flagname, meant)


def check_positional(arguments: Sequence[str]) -> NoReturn:
    """Exits and suggests the flag that was probably meant, as for `suc_layers = 6`."""
    tokens = [token for token in re.split(r"(=)|\s", " ".join(arguments[:3])) if token]
    name = tokens[0]
    if name not in FLAGS:
        fail("%r is not a flag; flags begin with --, see --help" % arguments[0])
    value = next((token for token in tokens[1:] if token != "="), None)
    meant = name if FLAGS[name].boolean or value is None else "%s=%s" % (name, value)
    fail("%r is not a flag; did you mean --%s?" % (name, meant))


def fail(message: object) -> NoReturn:
    """Exits with status 1 and one line on standard error."""
    sys.exit("run_classifier.py: %s" % " ".join(str(message).split()))


def read_config() -> Config:
    """Returns the checked Config of the parsed flags; UserError if flags contradict each other."""
    names = [field.name for field, _ in all_declarations()]
    given = frozenset(name for name in names if FLAGS[name].present)
    config = resolve(FLAGS.flag_values_dict(), given)
    if not config.version:
        config = recorded.complete(config)
    rules.check(config)
    return config


def main(argv: list[str]) -> None:
    """Runs the command; an error that the user can fix is one line on standard error."""
    if len(argv) > 1:
        check_positional(argv[1:])
    if hasattr(sys.stdout, "reconfigure"):
        # Labels and paths may be any text; an output that takes only ASCII gets them escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(None)
    try:
        config = read_config()
    except UserError as error:
        fail(error)
    if config.version:
        print("bert-theseus %s" % theseus.__version__)
        return
    try:
        command.run(config, lambda: on_signals(signal.default_int_handler, was=leave))
    except UserError as error:
        fail(error)
    except BrokenPipeError:  # The reader of the predictions, such as head, has ended.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        fail("interrupted; the same command resumes from the last checkpoint")


def leave(*_: object) -> NoReturn:
    """Ends the process at once: while TensorFlow is imported, there is nothing to clean up."""
    os.write(2, b"run_classifier.py: interrupted during start-up; nothing was written\n")
    os._exit(1)


def on_signals(handler: Any, was: Any) -> None:
    """Sets the handler of SIGINT, SIGTERM and SIGHUP wherever `was` is the current one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == was:
            signal.signal(number, handler)


def run() -> None:
    """Runs the command line; the entry point of `bert-theseus`."""
    on_signals(leave, was=signal.SIG_DFL)  # A signal that nohup ignores stays ignored.
    on_signals(leave, was=signal.default_int_handler)
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
