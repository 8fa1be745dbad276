"""compress.py: which commands it runs, what it chooses, and that it resumes."""

import json
import os
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

import compress
from compressing import commands as commands_lib
from compressing import plan as plan_lib
from compressing import settings as settings_lib
from compressing import table
from compressing.commands import Commands
from conftest import ROOT, read_json, write_pairs, write_stage, write_start
from theseus.errors import UserError
from theseus.inputs import tasks


def settings(tmp_path, **variables):
    values = dict(
        DATA=str(tmp_path / "data"), BERT=str(tmp_path / "bert"), OUT=str(tmp_path / "out")
    )
    return settings_lib.read_settings(dict(values, **variables))


@pytest.fixture
def place(tmp_path):
    """A folder with data, a BERT without a classifier in bert/, and a stage 0 in trained/."""
    (tmp_path / "data").mkdir()
    for seed, split in enumerate(("train", "dev", "test")):
        write_pairs(tmp_path / "data" / (split + ".txt"), 20, seed)
    folder = write_stage(tmp_path / "trained", "predecessor")
    shutil.copytree(os.path.dirname(folder.best_checkpoint()), str(tmp_path / "held"))
    write_start(tmp_path / "bert")
    return tmp_path


@pytest.mark.parametrize(
    "variables, message",
    [
        (
            {"DATA": ""},
            "DATA is not set; run DATA=my_data BERT=my_bert OUT=out_compressed bash scr",
        ),
        ({"LAYERS": "6 six"}, "LAYERS=6 six: give whole numbers, such as 6 3"),
        ({"LAYERS": "6 6"}, "LAYERS: takes different numbers"),
        ({"LAYERS": "2 0"}, "LAYERS: takes different numbers"),
        ({"KEEP": "all"}, "KEEP=all: give a number"),
        ({"MAX_MS": "1 2"}, "MAX_MS=1 2: give a number"),
        ({"UNLABELLED": "none.txt"}, "UNLABELLED=none.txt: there is no such file"),
    ],
)
def test_a_variable_that_is_wrong_is_named(tmp_path, variables, message):
    with pytest.raises(UserError, match=message):
        settings(tmp_path, **variables)


def test_installed_it_takes_no_module_of_the_folder_that_it_is_called_in(tmp_path):
    site, here = tmp_path / "site", tmp_path / "here"
    (site / "theseus").mkdir(parents=True)
    here.mkdir()
    for name in ("run_classifier", "tokenization", "modeling_theseus", "optimization_theseus"):
        (site / (name + ".py")).symlink_to(os.path.join(ROOT, name + ".py"))
        (here / (name + ".py")).write_text("raise SystemExit('of another project')")
    for name in os.listdir(os.path.join(ROOT, "theseus")):
        (site / "theseus" / name).symlink_to(os.path.join(ROOT, "theseus", name))
    (site / "theseus" / "tools").symlink_to(os.path.join(ROOT, "scripts"))
    environment = dict(os.environ, PYTHONPATH=str(site), DATA="")
    line = [sys.executable, "-m", "theseus.tools.compress"]
    run = subprocess.Popen(line, cwd=str(here), env=environment, stderr=subprocess.PIPE)
    assert run.communicate()[1].decode("utf-8").startswith("compress: DATA is not set")
    assert run.returncode == 1


def flags_of(arguments):
    return dict(argument[2:].partition("=")[::2] for argument in arguments)


def test_a_bert_is_fine_tuned_and_distilled_by_its_width_and_each_depths_recipe(place):
    plan = plan_lib.Plan(
        settings(place, LAYERS="3 2", FLAGS="--max_seq_length=32 --seed=7 --label_smoothing=0")
    )
    commands = {name: flags_of(arguments) for _, name, arguments in plan.commands()}
    assert list(commands) == ["predecessor", "layers_3", "layers_2"]
    out = str(place / "out")
    first = commands["predecessor"]
    assert first["init_checkpoint"] == str(place / "bert") and "finetune_pre" in first
    assert "distill_weight" not in first
    rate = float(first["learning_rate"])
    assert rate == pytest.approx(0.04 / 16)  # SMALL_BERT's width.
    for layers, factor in ((3, 2), (2, 3)):
        made = commands["layers_%d" % layers]
        assert float(made["learning_rate"]) == pytest.approx(factor * rate)
        assert made["num_train_epochs"] == "10" and made["suc_init"] == "spread"
        assert (made["distill_temperature"], made["distill_weight"]) == ("2", "0.9")
        assert made["distill_from"] == made["init_checkpoint"] == out + "/predecessor"
        assert made["max_seq_length"] == "32"
        assert (made["export_format"], made["quantize"]) == ("onnx,huggingface", "none,int8")
    assert plan_lib.recipe_of(6) == plan_lib.Recipe(1.0, 5, False)


@pytest.mark.parametrize("count, epochs", [(20, "5"), (60, "2.5"), (980, "1")])
def test_texts_without_labels_are_distilled_from_in_as_many_steps(place, count, epochs):
    """With 20 labelled texts alone it would be 10 epochs; each text must come at least once."""
    write_pairs(place / "more.txt", count, 7)
    more = str(place / "more.txt")
    plan = plan_lib.Plan(settings(place, LAYERS="2", UNLABELLED=more))
    commands = {name: flags_of(arguments) for _, name, arguments in plan.commands()}
    made = commands["layers_2"]
    assert (made["unlabelled_file"], made["num_train_epochs"]) == (more, epochs)
    assert "unlabelled_file" not in commands["predecessor"]
    assert plan.content != plan_lib.Plan(settings(place, LAYERS="2")).content


def test_a_blank_line_of_train_or_test_is_skipped_as_in_training(place):
    for name in ("train", "test"):
        with open(str(place / "data" / (name + ".txt")), "a", encoding="utf-8") as writer:
            writer.write("\n问题\t回答\t1\n")
    plan = plan_lib.Plan(settings(place, LAYERS="2"))
    assert (plan.sizes.train, plan.sizes.test, len(plan.test)) == (21, 21, 21)


def test_a_test_without_labels_is_not_scored(place):
    (place / "data" / "test.txt").write_text("问题\t回答\n问\t答\n", encoding="utf-8")
    plan = plan_lib.Plan(settings(place, LAYERS="2"))
    assert plan.test is None and plan.sizes.test == 0


def test_a_test_that_lacks_some_labels_is_refused(place):
    (place / "data" / "test.txt").write_text("问题\t回答\t1\n问\t答\t\n", encoding="utf-8")
    message = "test.txt, line 2: expected a label of 0, 1, found none; give each line of test a l"
    with pytest.raises(UserError, match=message):
        plan_lib.Plan(settings(place, LAYERS="2"))


def test_flags_cannot_take_away_an_export_that_is_measured(place):
    plan = plan_lib.Plan(settings(place, LAYERS="2", FLAGS="--quantize=none"))
    commands = {name: flags_of(arguments) for _, name, arguments in plan.commands()}
    for name, kinds in (("predecessor", "none"), ("layers_2", "none,int8")):
        assert commands[name]["quantize"] == kinds


def test_a_classifier_for_the_labels_is_the_predecessor(place):
    plan = plan_lib.Plan(settings(place, BERT=str(place / "trained"), LAYERS="2"))
    commands = {name: flags_of(arguments) for _, name, arguments in plan.commands()}
    assert plan.is_classifier and "do_train" not in commands["predecessor"]
    assert commands["layers_2"]["distill_from"] == str(place / "trained")


@pytest.mark.parametrize("names, is_classifier", [(["token_type_ids"], True), ([], False)])
def test_a_pair_classifier_of_one_segment_is_fine_tuned_first(place, names, is_classifier):
    """Its answers to pairs would not be those that it was trained to give."""
    for name in ("vocab.txt", "bert_config.json"):
        shutil.copy(str(place / "trained" / name), str(place / "held"))
    for path in (place / "held").glob("model.ckpt*"):
        path.rename(path.with_name(re.sub(r"model.ckpt-[0-9]+", "bert_model.ckpt", path.name)))
    config = json.dumps({"model_input_names": ["input_ids", *names]})
    (place / "held" / "tokenizer_config.json").write_text(config)
    plan = plan_lib.Plan(settings(place, BERT=str(place / "held"), LAYERS="2"))
    commands = {name: flags_of(arguments) for _, name, arguments in plan.commands()}
    assert plan.is_classifier == is_classifier
    assert ("do_train" in commands["predecessor"]) != is_classifier
    assert ("same segment" in plan.note) != is_classifier
    assert commands["layers_2"]["init_checkpoint"] == str(
        place / "held" if is_classifier else place / "out" / "predecessor"
    )


def test_files_that_name_their_columns_are_a_custom_task(place):
    assert plan_lib.guessed_task(settings(place)) == []
    assert plan_lib.guessed_task(settings(place, FLAGS="--task_name=rte")) == []
    text = (place / "data" / "train.txt").read_text(encoding="utf-8")
    header = "text_a\ttext_b\tlabel\n"
    (place / "data" / "train.txt").write_text(header + text, encoding="utf-8")
    assert plan_lib.guessed_task(settings(place)) == ["--task_name=custom"]


def test_the_columns_names_are_read_as_flags_say(place):
    text = "text_a,text_b,标签\n问,答,好\n答,问,差\n"
    flags = "--format=csv --encoding=gb18030"
    for split in ("train", "dev"):
        (place / "data" / (split + ".txt")).write_bytes(text.encode("gb18030"))
    (place / "data" / "test.txt").unlink()
    plan = plan_lib.Plan(settings(place, LAYERS="2", FLAGS=flags))
    assert plan.task.name == "custom" and sorted(plan.task.labels) == ["好", "差"]
    with pytest.raises(UserError, match="^--encoding: Python knows no such encoding"):
        plan_lib.Plan(settings(place, LAYERS="2", FLAGS="--encoding=ansi"))


def test_flags_win_over_the_recipe_and_those_of_the_successors_are_not_stage_0s(place):
    flags = "--distill_weight=0.5 --suc_learning_rate=1e-3 --train_batch_size=8 "
    flags += "--num_train_epochs=3"
    plan = plan_lib.Plan(settings(place, LAYERS="2", FLAGS=flags))
    commands = {name: flags_of(arguments) for _, name, arguments in plan.commands()}
    assert "distill_weight" not in commands["predecessor"]
    assert commands["predecessor"]["train_batch_size"] == "8"
    assert commands["layers_2"]["suc_learning_rate"] == "1e-3"
    assert commands["layers_2"]["distill_weight"] == "0.5"
    assert {commands[name]["num_train_epochs"] for name in ("predecessor", "layers_2")} == {"3"}


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"DATA": "nowhere"}, "DATA=nowhere: there is no such folder; give one with train"),
        ({"BERT": "no/where/at/all"}, "BERT=no/where/at/all: there is no such folder; give a BERT"),
    ],
)
def test_a_place_that_is_not_there_is_named_by_its_variable(place, variables, message):
    with pytest.raises(UserError, match=message):
        plan_lib.Plan(settings(place, LAYERS="2", **variables))


def test_of_the_default_depths_those_of_a_successor_are_made(place):
    assert plan_lib.Plan(settings(place)).layers == [3, 2]  # SMALL_BERT has 4 layers.


def test_as_many_layers_as_the_bert_has_are_refused(place):
    with pytest.raises(UserError, match="LAYERS: BERT has 4 layers; give fewer"):
        plan_lib.Plan(settings(place, LAYERS="4 2"))


def test_a_command_that_is_done_is_not_run_again_and_a_failure_shows_its_line(
    tmp_path, monkeypatch
):
    ran = []

    def call(command, stdout, stderr, env):
        ran.append(command[2:])
        stdout.write(
            "no such thing; bring it back, or give another folder with --stage_2_outputdir\n"
        )
        return int("fails" in command)

    monkeypatch.setattr(commands_lib.subprocess, "call", call)
    for export in ("onnx", "onnx_int8"):
        (tmp_path / "one" / "export" / export).mkdir(parents=True)
    for arguments, content in ((["--a"], "1"), (["--a"], "1"), (["--b"], "1"), (["--b"], "2")):
        Commands(str(tmp_path), content).run("it", "one", arguments)
    assert ran == [["--a"], ["--b"], ["--b"]]
    (tmp_path / "one" / "export" / "onnx_int8").rmdir()
    Commands(str(tmp_path), "2").run("it", "one", ["--b"])
    assert len(ran) == 4
    with pytest.raises(UserError, match="back, or give another OUT; the full log is"):
        Commands(str(tmp_path), "2").run("it", "two", ["fails"])
    assert read_json(tmp_path, "compress.json") == {"one": {"flags": ["--b"], "content": "2"}}


def test_other_layers_are_listed_with_those_that_were_made_before(place):
    commands = Commands(str(place / "out"), "content")
    first = plan_lib.Plan(settings(place, LAYERS="3 1", FLAGS="--num_train_epochs=1"))
    for _, name, flags in first.commands():
        for export in ("onnx", "onnx_int8"):
            os.makedirs(str(place / "out" / name / "export" / export))
        commands._done[name] = {"flags": flags, "content": "content"}
    for layers, flags, expected in (
        ("2", "--num_train_epochs=1", [3, 2, 1]),
        ("3 1", "--num_train_epochs=1", [3, 1]),
        ("2", "--num_train_epochs=2", [2]),
    ):
        plan = plan_lib.Plan(settings(place, LAYERS=layers, FLAGS=flags))
        plan.add_done(commands)
        assert plan.layers == expected
        assert [name for _, name, _ in plan.commands()][-1] == "layers_%d" % expected[-1]


def row(layers, dev, ms, name="float32", agreement=1.0):
    return table.Row(name, "", layers, 1, dev, None, agreement, ms, 10 * ms, 1.0)


ROWS = [row(12, 0.9, 12.0), row(6, 0.9, 6.0), row(3, 0.885, 3.0), row(2, 0.86, 2.0)]


@pytest.mark.parametrize(
    "rows, variables, chosen, said",
    [
        (ROWS, {}, (3, "float32"), "the smallest with 98 % retained"),
        (ROWS, {"KEEP": "95"}, (2, "float32"), "the smallest with 95 % retained"),
        (ROWS, {"KEEP": "99"}, (6, "float32"), "the smallest with 99 % retained"),
        (
            ROWS,
            {"KEEP": "99", "MAX_MS": "4"},
            (3, "float32"),
            "no successor has 99 % retained within 4 ms",
        ),
        (ROWS, {"MAX_MS": "1"}, (2, "float32"), "no successor has"),
        (ROWS + [row(3, 0.884, 1.0, "int8")], {}, (3, "int8"), "the smallest"),
        (ROWS + [row(3, 0.884, 3.2, "int8")], {}, (3, "int8"), "the smallest"),
        (ROWS + [row(3, 0.884, 3.5, "int8")], {}, (3, "float32"), "the smallest"),
        (ROWS + [row(3, 0.884, 1.0, "int8", 0.98)], {}, (3, "float32"), "the smallest"),
        (ROWS + [row(3, 0.88, 1.0, "int8")], {"KEEP": "98.2"}, (3, "float32"), "the smallest"),
        (ROWS + [row(3, 0.884, 3.2, "int8")], {"MAX_MS": "3"}, (3, "float32"), "the smallest"),
    ],
)
def test_the_smallest_that_fulfils_it_is_chosen(tmp_path, rows, variables, chosen, said):
    rows = [one._replace(test=1 - one.dev) for one in rows]  # It has no say.
    found, words = table.choose(rows, settings(tmp_path, **variables))
    assert (found.layers, found.name) == chosen and said in words


def test_an_int8_model_is_compared_with_the_float32_model_of_its_depth(tmp_path, monkeypatch):
    ids = {"predecessor/export/onnx": [0, 0, 0, 1], "layers_2/export/onnx": [1, 1, 0, 1]}
    ids["layers_2/export/onnx_int8"] = [1, 1, 1, 1]
    for place in ids:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.onnx").write_bytes(b"12")
    by_folder = {str(tmp_path / place): np.array(values) for place, values in ids.items()}
    monkeypatch.setattr(table, "Classifier", lambda folder: folder)
    monkeypatch.setattr(table, "_times", lambda models, _: [(1.0, 2.0)] * len(models))
    monkeypatch.setattr(table, "_score", lambda model, *_: (0.5, by_folder[model]))
    monkeypatch.setattr(table, "_count_parameters", lambda _: 7)
    plan = types.SimpleNamespace(num_layers=4, layers=[2], dev=["dev"], test=["test"])
    plan.folder = lambda name: str(tmp_path / name)
    found = [(one.layers, one.name, one.agreement) for one in table.measure(plan)]
    assert found == [(4, "float32", 1.0), (2, "float32", 1.0), (2, "int8", 0.75)]


def test_the_table_has_a_row_for_each(tmp_path):
    lines = table.format_table(ROWS, tasks.TASKS["lcqmc_pair"]).splitlines()
    assert len(lines) == 6 and lines[2].startswith("| 12 | float32 | 1 | 0.9000 | - | 100.0 % |")
    assert "| 95.6 % | 2.00 | 20.00 | 1.0 |" in lines[5]


def test_an_estimate_is_of_what_is_not_done(place, monkeypatch):
    monkeypatch.setattr(plan_lib.estimate.cost, "here", lambda: plan_lib.estimate.cost.Machine(1e9))
    flags = "--num_train_epochs 3 --precision=bfloat16 --train_batch_size=8"
    plan = plan_lib.Plan(settings(place, LAYERS="3 2", FLAGS=flags))
    assert plan.sizes[:4] == (20, 0, 20, 20) and 3 < plan.sizes.length < 128
    commands = Commands(str(place / "out"), plan.content)
    found = []
    monkeypatch.setattr(plan_lib.estimate, "line", lambda *arguments: found.append(arguments))
    plan.estimate(commands)
    (left, bert, sizes) = found[0]
    assert [title for title, _ in left] == ["4 layers, fine-tuned", "3 layers, distilled"] + [
        "2 layers, distilled"
    ]
    configs = [config for _, config in left]
    assert [config.stage.number for config in configs] == [0, 2, 2]
    assert [config.suc_layers for config in configs][1:] == [3, 2]
    assert {(c.num_train_epochs, c.train_batch_size) for c in configs} == {(3.0, 8)}
    assert {config.training_precision for config in configs} == {"bfloat16"}
    assert bert.hidden_size == 16 and sizes is plan.sizes
    for _, name, flags in list(plan.commands())[:2]:
        for export in ("onnx", "onnx_int8"):
            os.makedirs(str(place / "out" / name / "export" / export), exist_ok=True)
        commands._done[name] = {"flags": flags, "content": plan.content}
    plan.estimate(commands)
    assert [title for title, _ in found[1][0]] == ["2 layers, distilled"]


def test_the_estimate_is_printed_before_the_first_command(place, monkeypatch, capsys):
    for name in ("data", "bert", "out"):
        monkeypatch.setenv(name.upper(), str(place / name))
    monkeypatch.setenv("LAYERS", "2")
    monkeypatch.setattr(commands_lib.subprocess, "call", lambda *_, **__: 1)
    monkeypatch.setattr(compress.signal, "signal", lambda *_: None)
    monkeypatch.setattr(compress.logging, "set_verbosity", lambda _: None)
    with pytest.raises(SystemExit):
        compress.main()
    lines = capsys.readouterr().out.splitlines()
    (number,) = [number for number, line in enumerate(lines) if line.startswith("estimate: ")]
    assert re.match(
        "estimate: about [0-9.]+ minutes? here without a GPU, if nothing else runs "
        r"\(4 layers, fine-tuned: [0-9.]+; 2 layers, distilled: [0-9.]+\)$",
        lines[number],
    )
    assert lines[number + 2].startswith("4 layers, fine-tuned ")


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    done = {"predecessor": ["--a"]}
    commands = types.SimpleNamespace(done=lambda plan: done)
    counted = []
    monkeypatch.setattr(table, "measure", lambda *_: counted.append(1) or ROWS)
    (tmp_path / "out").mkdir()
    for _ in range(2):
        assert table.measured_once(None, settings(tmp_path), commands) == ROWS
    done["layers_2"] = ["--b"]
    table.measured_once(None, settings(tmp_path), commands)
    assert len(counted) == 2


def test_what_is_chosen_is_delivered_with_the_table(tmp_path):
    for name in ("onnx", "huggingface"):
        folder = tmp_path / "export" / name
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("# A model\n", encoding="utf-8")
        (folder / "model.onnx").write_bytes(b"content")
    chosen = row(6, 0.9, 6.0, "int8")._replace(folder=str(tmp_path / "export" / "onnx"))
    (tmp_path / "out").mkdir()
    for rows in (ROWS[:2] + [chosen], ROWS + [chosen]):
        place = compress.deliver(chosen, rows, tasks.TASKS["lcqmc_pair"], settings(tmp_path))
    assert sorted(os.listdir(str(tmp_path / "out"))) == ["model", "model_huggingface"]
    for name, marked in (
        ("model", "| 6 | int8, this"),
        ("model_huggingface", "| 6 | float32, this"),
    ):
        card = (tmp_path / "out" / name / "README.md").read_text(encoding="utf-8")
        assert card.startswith("# A model\n") and card.count("## Beside other depths") == 1
        assert card.count("\n| ") == 6 and card.count("this model") == 1 and marked in card
    assert place == str(tmp_path / "out" / "model")


def test_models_are_timed_in_turns_from_text_to_label():
    calls = []

    def fake(name):
        return types.SimpleNamespace(classify=lambda texts: calls.append((name, len(texts))))

    examples = [types.SimpleNamespace(text_a="a", text_b=None) for _ in range(25)]
    times = table._times([fake("one"), fake("other")], examples)
    assert np.array(times).shape == (2, 2)
    assert calls[:4] == [("one", 1), ("other", 1)] * 2 and calls[-2:] == [
        ("one", 10),
        ("other", 10),
    ]


@pytest.mark.parametrize("score, warns", [(0.5, True), (0.4, True), (0.75, False)])
def test_a_model_that_gives_the_commonest_label_alone_is_said_to(score, warns):
    dev = [types.SimpleNamespace(label=label) for label in "0101"]
    plan = types.SimpleNamespace(task=tasks.TASKS["lcqmc_pair"], dev=dev)
    assert ("has learned nothing" in table.warning_of(row(2, score, 1.0), plan)) == warns
    plan.task = tasks.TASKS["sts-b"]
    assert table.warning_of(row(2, score, 1.0), plan) == ""
