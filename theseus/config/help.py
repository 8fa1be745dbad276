"""The texts of --help and --helpfull, and the tables of docs/flags.md."""

from __future__ import annotations

import textwrap
from typing import Iterator

from theseus.config.config import GROUPS
from theseus.config.flag import declarations, default_of, sentence

_WIDTH = 96
_USAGE = """Compresses a BERT classifier by module replacing (BERT-of-Theseus).

Stage 0 fine-tunes the predecessor, stage 1 replaces its modules, stage 2 trains the successor:
  {program} --do_train --do_eval --finetune_pre --data_dir=my_data --bert_pretrained_model=my_bert
  {program} --do_train --do_eval --init_checkpoint=out_0 --data_dir=my_data
  {program} --do_train --do_eval --finetune_suc --data_dir=my_data
To compress without replacing, in one command, with a table of all depths: scripts/compress.sh.
To predict with a stage's model, and to export it for other programs:
  {program} --do_predict --finetune_suc --predict_file=my_texts.tsv
  {program} --do_export --finetune_suc --export_format=onnx
"""
_MORE = """
{count} more flags: {program} --helpfull, or docs/flags.md. --flagfile=FILE reads flags from a file.
"""


def help_text(program: str, is_full: bool) -> str:
    """Returns the text of --help, or of --helpfull if `is_full`: the flags, group by group."""
    parts, left_out = [_USAGE.format(program=program)], 0
    for group in GROUPS:
        shown = [pair for pair in declarations(group) if is_full or pair[1].is_common]
        left_out += sum(1 for _ in declarations(group)) - len(shown)
        if shown:
            parts.append("%s" % (group.__doc__ or ""))
        for field, declared in shown:
            text = textwrap.wrap(sentence(field, declared), _WIDTH - 6)
            parts.append("  --%s\n      %s" % (field.name, "\n      ".join(text)))
    if left_out:
        parts.append(_MORE.format(count=left_out, program=program))
    return "\n".join(parts)


def markdown() -> str:
    """Returns the tables of docs/flags.md, one for each group."""
    return "\n\n".join("\n".join(_table(group)) for group in GROUPS)


def _table(group: type) -> Iterator[str]:
    title, _, more = (group.__doc__ or "").partition(":")
    yield "## %s\n" % title.rstrip(".")
    if more:
        yield more.strip()[:1].upper() + more.strip()[1:] + "\n"
    yield "| flag | default | meaning |\n|---|---|---|"
    for field, declared in declarations(group):
        default = declared.default_help or "`%s`" % default_of(field)
        meaning = declared.help
        if declared.choices:
            meaning += " Choices: %s." % ", ".join("`%s`" % choice for choice in declared.choices)
        if len(declared.stages) < 3:
            meaning += " For stage%s %s." % (
                "s"[: len(declared.stages) - 1],
                " and ".join(map(str, declared.stages)),
            )
        yield "| `--%s` | %s | %s |" % (field.name, "-" if default == "``" else default, meaning)
