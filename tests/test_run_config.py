"""Tests of the comparison of a command with the run in a folder."""

import pytest

from theseus.commands.run_config import check_contradiction
from theseus.errors import FolderError, UserError, naming
from theseus.runs.stage_folder import StageFolder

RUN = {"suc_layers": 6, "learning_rate": 2e-5, "padded_length": None, "vocab": "ab"}


@pytest.fixture
def folder(tmp_path):
    held = StageFolder(str(tmp_path / "out_1"))
    with held.locked():
        yield held


def test_a_command_that_contradicts_the_run_is_refused_with_flag_and_both_values(folder):
    check_contradiction(folder, RUN)
    folder.claim(RUN, {"vocab.txt": "a\nb\n"})
    check_contradiction(folder, dict(RUN))
    check_contradiction(folder, {"suc_layers": 6})
    with pytest.raises(UserError, match="^--suc_layers: the run in .*out_1 has 6, .* has 2;"):
        check_contradiction(folder, dict(RUN, suc_layers=2))
    with pytest.raises(UserError, match="^--pad_to_max_length: the padded length: .* has None, "):
        check_contradiction(folder, dict(RUN, padded_length=32))
    message = "^--bert_pretrained_model: the run in .*out_1 was started with another "
    message += "vocab.txt; restore the original, or give"
    with pytest.raises(UserError, match=message):
        check_contradiction(folder, dict(RUN, vocab="cd"))


def test_every_part_of_a_run_is_compared_and_one_that_the_run_lacks_too(folder):
    folder.claim(RUN, {})
    for key in RUN:
        with pytest.raises(UserError):
            check_contradiction(folder, dict(RUN, **{key: "other"}))
    with pytest.raises(UserError, match="^--seed: .* has None, this command has 3;"):
        check_contradiction(folder, dict(RUN, seed=3))
    check_contradiction(folder, dict(RUN, seed=None))


def test_a_command_names_the_flag_of_the_folder_and_a_python_caller_does_not(folder):
    folder.claim(RUN, {})
    with pytest.raises(FolderError, match="give the same value, or give another folder$"):
        check_contradiction(folder, dict(RUN, suc_layers=2))
    with pytest.raises(UserError, match="give another folder with --stage_1_outputdir$"):
        with naming("stage_1_outputdir"):
            check_contradiction(folder, dict(RUN, suc_layers=2))
    with pytest.raises(UserError, match="^as it is$"), naming("stage_1_outputdir"):
        raise UserError("as it is")
