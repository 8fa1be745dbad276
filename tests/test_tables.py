"""Tests which commands the scripts of the tables run; a stub replaces Python."""

import os
import shutil

import pytest

import report
from conftest import command, run_bash, stub_project
from theseus.commands import command as command_lib

BERT = "data/chinese_L-12_H-768_A-12"
# The flags that every training has by default; its stage, folder and epochs are its own.
COMMON = ["do_train", "do_eval", "data_dir=data/lcqmc", "bert_pretrained_model=" + BERT]
COMMON += ["learning_rate=2e-5", "cache_dir=out_tables/cache"]
STAGE_FLAGS = {0: ["finetune_pre"], 1: [], 2: ["finetune_suc"]}
SCRIPTS = ["lcqmc_6_layers.sh", "lcqmc_2_layers.sh", "lcqmc_other.sh", "paper_recipe.sh"]
SCRIPTS += ["controls.sh"]


@pytest.fixture
def project(tmp_path):
    """The scripts, with stubs, beside LCQMC and a BERT of which there are no more than names."""
    project = tmp_path / "project"
    project.mkdir()
    stub_project(project)
    (project / BERT).mkdir(parents=True)
    (project / "data" / "lcqmc").mkdir()
    for name in ("train", "dev"):
        (project / "data" / "lcqmc" / (name + ".txt")).write_text("")
    return project


def run_script(project, name, **variables):
    """Runs a script, which must succeed; returns the trainings' flags, as sets of str.

    The last command must be the report's, but where the times are measured.
    """
    status, lines, errors = run_bash(project, name, **variables)
    assert (status, errors) == (0, "")
    out = variables.get("OUT", "out_tables")
    assert lines[-1] == ["scripts/report.py", out]
    return trainings(lines)


def trainings(lines):
    """Returns the flags of each training among command lines, as sets of str without dashes."""
    assert all(
        word[:2] == "--" for line in lines if line[0] == "run_classifier.py" for word in line[1:]
    )
    return [{word[2:] for word in line[1:]} for line in lines if line[0] == "run_classifier.py"]


def training(stage, folder, epochs, *flags):
    """Returns what a training's flags should be, as a set of str."""
    own = ["stage_%d_outputdir=out_tables/%s" % (stage, folder), "num_train_epochs=%s" % epochs]
    return set(COMMON + STAGE_FLAGS[stage] + own + list(flags))


def published(stage, name, epochs, layers, *flags):
    folder = "published/seed_42/" + name
    return training(stage, folder, epochs, "suc_layers=%d" % layers, "seed=42", *flags)


def starting(folder):
    """Returns the flag of a stage 2 that starts from a stage 1."""
    return "stage_1_outputdir=out_tables/" + folder


# --- Which commands by default ---


def test_the_published_rows_of_6_layers(project):
    start = starting("published/seed_42/6_layers_10")
    assert run_script(project, "lcqmc_6_layers.sh") == [
        published(1, "6_layers_10", 10, 6),
        published(2, "6_layers_10_4", 4, 6, start),
        published(1, "6_layers_4", 4, 6),
        published(1, "6_layers_3", 3, 6),
    ]


def test_the_published_rows_of_2_layers(project):
    start = starting("published/seed_42/2_layers_10")
    expected = [published(1, "2_layers_10", 10, 2)]
    for epochs in (2, 1, 3):
        expected.append(published(2, "2_layers_10_%d" % epochs, epochs, 2, start))
    assert run_script(project, "lcqmc_2_layers.sh") == expected


def test_the_published_other_run(project):
    assert run_script(project, "lcqmc_other.sh") == [published(1, "out_1_3", 4, 2)]


def test_the_published_rows_are_all_that_the_report_knows(project):
    """By the folders: (layers, epochs of stage 1, of stage 2) of each."""
    found = set()
    for name in SCRIPTS[:3]:
        for flags in run_script(project, name):
            (own,) = [
                f
                for f in flags
                if f.startswith("stage_2" if "finetune_suc" in flags else "stage_1")
            ]
            numbers = [int(part) for part in os.path.basename(own).split("_") if part.isdigit()]
            found.add((2, 4, 0) if own.endswith("out_1_3") else tuple((numbers + [0])[:3]))
    assert found == set(report.PUBLISHED)


def test_the_papers_recipe(project):
    root = "paper/seed_42/"
    expected = [training(0, root + "predecessor", 3, "seed=42")]
    for layers in (6, 2):
        folder = root + "%d_layers" % layers
        common = ["suc_layers=%d" % layers, "seed=42", "train_scope=successor_layers"]
        linear = ["replace_scheduler=linear", "replace_until=0.8"]
        start = "init_checkpoint=out_tables/%spredecessor" % root
        expected.append(training(1, folder, 10, start, *(common + linear)))
        expected.append(training(2, folder + "_4", 4, starting(folder), *common))
    assert run_script(project, "paper_recipe.sh") == expected


LINEAR = ["replace_scheduler=linear", "replace_until=0.8"]


def controls(layers, seed=42, temperature="2", weight="0.9"):
    """Returns what each method's trainings should be, by its name."""
    root = "controls/seed_%d/" % seed
    teacher = "out_tables/%spredecessor" % root
    start, common = "init_checkpoint=" + teacher, ["suc_layers=%d" % layers, "seed=%d" % seed]
    distill = ["distill_from=" + teacher, "distill_temperature=" + temperature]
    distill.append("distill_weight=" + weight)

    def alone(method, *flags):
        return [training(2, root + "%d_layers/" % layers + method, 14, *(common + list(flags)))]

    def replacing(method, stage_1=(), both=()):
        folder = root + "%d_layers/%s" % (layers, method)
        both = common + list(both)
        return [
            training(1, folder + "/stage_1", 10, "keep_predecessor", *(both + list(stage_1))),
            training(2, folder + "/stage_2", 4, starting(folder + "/stage_1"), *both),
        ]

    return {
        "direct": alone("direct", start),
        "direct_pretrained": alone("direct_pretrained", "init_checkpoint=" + BERT),
        "distilled": alone("distilled", start, *distill),
        "replacing": replacing("replacing", [start]),
        "replacing_linear": replacing("replacing_linear", [start] + LINEAR),
        "replacing_layers": replacing(
            "replacing_layers", [start] + LINEAR, ["train_scope=successor_layers"]
        ),
        "replacing_pretrained": replacing("replacing_pretrained"),
        "replacing_distilled": replacing("replacing_distilled", [start] + LINEAR, distill),
    }


def test_the_controls(project):
    found = run_script(project, "controls.sh")
    assert found[0] == training(0, "controls/seed_42/predecessor", 3, "seed=42")
    expected = [methods for layers in (6, 2) for methods in controls(layers).values()]
    key = sorted
    assert sorted(found[1:], key=key) == sorted(sum(expected, []), key=key)


@pytest.mark.parametrize("method", sorted(controls(6)))
def test_a_control_by_itself_runs_its_stages_in_order(project, method):
    found = run_script(project, "controls.sh", METHODS=method, LAYERS="3")
    assert found[1:] == controls(3)[method]


def test_all_methods_of_a_size_take_the_same_epochs(project):
    """The sum over each method's stages, of those that the script runs by default."""
    total = {}
    for flags in run_script(project, "controls.sh", LAYERS="2")[1:]:
        values = dict(flag.split("=", 1) for flag in flags if "=" in flag)
        stage = "stage_2_outputdir" if "finetune_suc" in flags else "stage_1_outputdir"
        method = values[stage].split("2_layers/")[1].split("/")[0]
        total[method] = total.get(method, 0) + int(values["num_train_epochs"])
    assert total == dict.fromkeys(controls(2), 14)


def test_the_published_times(project):
    status, lines, errors = run_bash(project, "inference_speed.sh")
    assert (status, errors) == (0, "")
    line = ["scripts/benchmarks/benchmark_inference.py", "--bert_pretrained_model=" + BERT]
    line += ["--suc_layers=6,2", "--batch_sizes=10,1", "--json=out_tables/inference_speed.json"]
    assert lines[-1] == line
    assert (project / "out_tables").is_dir()
    (project / "out_tables" / "inference_speed.json").write_text("{}")  # As the benchmark does.
    assert run_bash(project, "inference_speed.sh") == (0, [], "")
    (project / "my_bert").mkdir()
    assert run_bash(project, "inference_speed.sh", BERT="my_bert")[1][-1][0] == line[0]


def test_the_program_takes_each_command(project, monkeypatch):
    """The flags exist and keep the program's rules."""
    made = []
    monkeypatch.setattr(command_lib, "run", lambda config, _: made.append(config))
    count = 0
    for name in SCRIPTS:
        _, lines, _ = run_bash(project, name)
        for line in lines:
            if line[0] == "run_classifier.py":
                command(" ".join(line[1:]), project, monkeypatch)
                count += 1
                assert os.path.isdir(str(project / made[-1].output_dir))
    assert count == len(made) == 4 + 4 + 1 + 5 + 1 + 2 * 13


# --- The environment's variables ---


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_variables_reach_every_training(project, name):
    shutil.move(str(project / "data" / "lcqmc"), str(project / "mine"))
    shutil.move(str(project / BERT), str(project / "my_bert"))
    (project / "shop.tsv").write_text("")
    variables = dict(DATA="mine", BERT="my_bert", BUSINESS="shop.tsv", PAIRS="100", OUT="o/ut")
    variables.update(LEARNING_RATE="3e-5", FLAGS="--log_steps=7 --pad_to_max_length")
    found = run_script(project, name, **variables)
    expected = {"data_dir=mine", "bert_pretrained_model=my_bert", "eval_files=shop.tsv"}
    expected |= {"max_train_examples=100", "cache_dir=o/ut/cache", "learning_rate=3e-5"}
    expected |= {"log_steps=7", "pad_to_max_length"}
    for flags in found:
        assert expected <= flags
        folders = [flag for flag in flags if "outputdir=" in flag]
        assert folders and all("outputdir=o/ut/" in flag for flag in folders)
        assert not [flag for flag in flags if "lcqmc" in flag or "chinese" in flag]


@pytest.mark.parametrize("name", SCRIPTS[:4])
def test_the_epochs_of_every_stage_are_those_asked_for(project, name):
    for flags in run_script(project, name, EPOCHS="0.5"):
        assert "num_train_epochs=0.5" in flags


def test_the_epochs_of_the_controls_stages_are_those_asked_for(project):
    found = run_script(project, "controls.sh", METHODS="replacing direct", EPOCHS="3", LAYERS="2")
    epochs = [flag for flags in found for flag in flags if flag.startswith("num_train_epochs")]
    assert epochs == ["num_train_epochs=" + number for number in "3336"]
    *others, alone, spread = run_script(project, "best_recipe.sh", EPOCHS="2", LAYERS="6")
    assert all("num_train_epochs=2" in flags for flags in others)
    assert all("num_train_epochs=4" in flags for flags in (alone, spread))  # As both stages.


def test_the_epochs_of_the_controls_keep_their_shares(project):
    variables = dict(STAGE_0="0.1", STAGE_1="0.5", STAGE_2="0.25", EPOCHS="7", LAYERS="2")
    found = run_script(project, "controls.sh", METHODS="replacing direct", **variables)
    epochs = [flag for flags in found for flag in flags if flag.startswith("num_train_epochs")]
    assert epochs == ["num_train_epochs=" + number for number in ("0.1", "0.5", "0.25", "0.75")]


def test_the_controls_temperature_and_weight_are_those_asked_for(project):
    chosen = dict(TEMPERATURE="5", WEIGHT="0.5", METHODS="distilled", LAYERS="2")
    found = run_script(project, "controls.sh", **chosen)
    assert found[1:] == controls(2, temperature="5", weight="0.5")["distilled"]


@pytest.mark.parametrize("name", ["controls.sh", "best_recipe.sh"])
def test_the_predecessor_can_have_a_rate_of_its_own(project, name):
    rates = dict(STAGE_0_RATE="1e-4", LEARNING_RATE="3e-5")
    first, *others = run_script(project, name, LAYERS="6", **rates)
    assert "finetune_pre" in first
    assert [flag for flag in first if flag.startswith("learning_rate")] == ["learning_rate=1e-4"]
    for flags in others:
        found = [flag for flag in flags if flag.startswith("learning_rate")]
        assert found == ["learning_rate=3e-5"]


def test_the_controls_successors_take_more_flags(project):
    more = ["suc_learning_rate=3e-4", "ema_decay=0.9"]
    chosen = dict(SUC_FLAGS=" ".join("--" + flag for flag in more), LAYERS="2")
    first, *others = run_script(project, "controls.sh", **chosen)
    assert not first.intersection(more)
    plain = [flags | set(more) for methods in controls(2).values() for flags in methods]
    assert sorted(others, key=sorted) == sorted(plain, key=sorted)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_seed_repeats_all_in_folders_of_its_own(project, name):
    expected = run_script(project, name, SEEDS="7", OUT="one")
    found = run_script(project, name, SEEDS="7 8", OUT="one")
    assert len(expected) == len(found)  # Of the first all is done.
    of_7 = [{flag.replace("seed_8", "seed_7") for flag in flags} - {"seed=8"} for flags in found]
    assert [flags | {"seed=7"} for flags in of_7] == expected


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_data_are_of_any_format(project, ending):
    for name in ("train", "dev"):
        os.remove(str(project / "data" / "lcqmc" / (name + ".txt")))
    for name in ("train", "dev", "test"):
        (project / "data" / "lcqmc" / ("%s.%s" % (name, ending))).write_text("")
    (flags,) = run_script(project, "lcqmc_other.sh")
    assert "eval_files=data/lcqmc/test." + ending in flags
    assert [f for f in run_script(project, "lcqmc_other.sh", TEST="no")[0] if "eval" in f] == [
        "do_eval"
    ]


@pytest.mark.parametrize("business", ["", "shop.tsv"])
def test_a_test_set_beside_the_data_is_evaluated_too(project, business):
    (project / "data" / "lcqmc" / "test.txt").write_text("")
    (project / "shop.tsv").write_text("")
    (flags,) = run_script(project, "lcqmc_other.sh", BUSINESS=business)
    files = "eval_files=data/lcqmc/test.txt" + ("," + business if business else "")
    assert files in flags


def test_a_model_of_the_hub_is_a_bert(project):
    found = run_script(project, "lcqmc_other.sh", BERT="google-bert/bert-base-chinese")
    assert "bert_pretrained_model=google-bert/bert-base-chinese" in found[0]


# --- What is done, and what is not ---


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_done_is_not_run_again(project, name):
    assert run_script(project, name)
    assert run_script(project, name) == []


@pytest.mark.parametrize(
    "variables", [dict(BUSINESS="shop.tsv"), dict(FLAGS="--log_steps=7"), dict(EPOCHS="1")]
)
def test_what_has_changed_is_run(project, variables):
    (project / "shop.tsv").write_text("")
    run_script(project, "lcqmc_6_layers.sh")
    assert len(run_script(project, "lcqmc_6_layers.sh", **variables)) == 4
    assert run_script(project, "lcqmc_6_layers.sh", **variables) == []


def test_what_was_removed_is_run(project):
    run_script(project, "lcqmc_6_layers.sh")
    shutil.rmtree(str(project / "out_tables" / "published" / "seed_42" / "6_layers_4"))
    assert run_script(project, "lcqmc_6_layers.sh") == [published(1, "6_layers_4", 4, 6)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_interrupted_script_goes_on_where_it_stopped(project, name):
    expected = run_script(project, name, OUT="out_straight")
    stops_at = len(expected) // 2
    (folder,) = [
        flag
        for flag in expected[stops_at]
        if flag.startswith("stage_%d_outputdir" % stage_of(expected[stops_at]))
    ]
    fails = folder.replace("out_straight", "out_tables") + " "
    status, lines, _ = run_bash(project, name, STUB_FAILS=fails)
    assert status == 1 and len(trainings(lines)) == stops_at + 1
    assert lines[-1][0] == "run_classifier.py"
    found = run_script(project, name)
    assert [
        {flag.replace("out_tables", "out_straight") for flag in flags} for flags in found
    ] == expected[stops_at:]


def stage_of(flags):
    return 0 if "finetune_pre" in flags else 2 if "finetune_suc" in flags else 1


# --- All tables ---


def test_all_tables_are_one_after_the_other(project):
    status, lines, errors = run_bash(project, "all_tables.sh")
    assert (status, errors) == (0, "")
    found = [line[0] for line in lines if line[0].startswith("scripts/")]
    expected = ["scripts/benchmarks/benchmark_inference.py"]
    assert found == expected + ["scripts/report.py"] * len(SCRIPTS)
    one_by_one = [flags for name in SCRIPTS for flags in run_script(project, name, OUT="other")]
    expected = [{flag.replace("=other/", "=out_tables/") for flag in f} for f in one_by_one]
    assert trainings(lines) == expected
    assert trainings(run_bash(project, "all_tables.sh")[1]) == []


def test_all_tables_stop_at_the_first_failure_and_resume(project):
    status, lines, _ = run_bash(project, "all_tables.sh", STUB_FAILS="2_layers_10_1")
    assert status == 1 and "2_layers_10_1" in " ".join(lines[-1])
    status, lines, _ = run_bash(project, "all_tables.sh")
    assert (
        status == 0
        and "stage_2_outputdir=out_tables/published/seed_42/2_layers_10_1" in (trainings(lines)[0])
    )


# --- What is missing ---


def refused(project, name, **variables):
    """Returns the lines that a script is refused with, before it runs anything."""
    status, lines, errors = run_bash(project, name, **variables)
    assert (status, lines) == (1, [])
    return errors.splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_thing_that_is_missing_is_one_line(project, name):
    shutil.rmtree(str(project / "data"))
    place = "data/README.md says where to get "
    found = refused(project, name, BUSINESS="shop.tsv")
    assert len(found) == 3
    assert found[0] == "%s: DATA=data/lcqmc: holds no train and dev; %sthem" % (name, place)
    assert found[1].startswith("%s: BERT=%s: there is no such folder" % (name, BERT))
    assert found[1].endswith("; %sBERT" % place)
    assert found[2] == name + ": BUSINESS=shop.tsv: there is no such file"
    assert not (project / "out_tables").exists()


@pytest.mark.parametrize("absent", ["train", "dev"])
def test_a_folder_without_train_or_dev_is_no_data(project, absent):
    os.remove(str(project / "data" / "lcqmc" / (absent + ".txt")))
    (found,) = refused(project, "lcqmc_other.sh")
    assert found.startswith("lcqmc_other.sh: DATA=data/lcqmc: holds no train and dev; ")


@pytest.mark.parametrize("bert", ["/no/such/folder", "no_folder", "data/other", "a/b/c", "-a/b"])
def test_what_is_neither_a_folder_nor_a_name_of_the_hub_is_no_bert(project, bert):
    (found,) = refused(project, "lcqmc_other.sh", BERT=bert)
    assert found.startswith("lcqmc_other.sh: BERT=%s: there is no such folder; data/" % bert)


@pytest.mark.parametrize("bert", ["data/other", "google-bert/bert-base-chinese"])
def test_what_is_timed_is_a_folder(project, bert):
    (found,) = refused(project, "inference_speed.sh", BERT=bert)
    assert found.startswith("inference_speed.sh: BERT=%s: there is no such folder, which " % bert)
    refused(project, "all_tables.sh", BERT=bert)


def test_the_control_that_starts_from_the_pretrained_bert_needs_its_folder(project):
    bert = "google-bert/bert-base-chinese"
    (found,) = refused(project, "controls.sh", BERT=bert)
    assert found.startswith(
        "controls.sh: BERT=%s: there is no such folder, which direct_pre" % bert
    )
    methods = "direct replacing_pretrained"
    assert len(run_script(project, "controls.sh", BERT=bert, METHODS=methods, LAYERS="2")) == 4


def test_a_method_that_is_none_is_one_line_before_anything_is_trained(project):
    found = refused(project, "controls.sh", METHODS="direct magic")
    assert found == [
        "controls.sh: METHODS: magic is not a method of this script; see its first lines"
    ]


# --- GLUE, and one change at a time ---


@pytest.fixture
def glue(project):
    """The project with GLUE's files, as far as their names go; returns it."""
    for name, dev in [("RTE", "dev"), ("MRPC", "dev"), ("CoLA", "dev"), ("MNLI", "dev_matched")]:
        folder = project / "data" / "glue" / name
        folder.mkdir(parents=True)
        for split in ("train", dev, "test"):
            (folder / (split + ".tsv")).write_text("")
    return project


def test_glue_is_the_controls_of_each_task_in_a_folder_of_its_own(glue):
    status, lines, errors = run_bash(glue, "glue.sh", TASKS="rte mrpc", METHODS="direct")
    assert (status, errors) == (0, "")
    found = trainings(lines)
    assert len(found) == 4
    for flags, task in zip(found, ("rte", "rte", "mrpc", "mrpc")):
        assert {"task_name=" + task, "data_dir=data/glue/" + task.upper()} <= flags
        assert "cache_dir=out_tables/%s/cache" % task in flags
        assert not any(flag.startswith("eval_files") for flag in flags)  # They have no labels.
    successor = "stage_2_outputdir=out_tables/rte/controls/seed_42/6_layers/direct"
    assert {successor, "num_train_epochs=5", "suc_layers=6", "finetune_suc"} <= found[1]
    reports = [line[1] for line in lines if line[0] == "scripts/report.py"]
    assert reports == ["out_tables/rte", "out_tables/mrpc", "out_tables"]


def test_a_task_of_glue_is_found_as_it_is_given_out(glue):
    status, lines, errors = run_bash(glue, "glue.sh", TASKS="cola mnli", METHODS="direct")
    assert (status, errors) == (0, "")
    folders = ["data_dir=data/glue/CoLA"] * 2 + ["data_dir=data/glue/MNLI"] * 2
    assert [f for flags in trainings(lines) for f in flags if "data_dir" in f] == folders


def test_of_glue_all_that_is_missing_is_said_before_anything_is_trained(glue):
    shutil.rmtree(str(glue / "data" / "glue" / "MRPC"))
    shutil.rmtree(str(glue / BERT))
    found = refused(glue, "glue.sh", TASKS="rte mrpc sst-2")
    assert [line.split(": holds")[0] for line in found[:2]] == [
        "glue.sh: DATA=data/glue/MRPC",
        "glue.sh: DATA=data/glue/SST-2",
    ]
    assert found[2].startswith("glue.sh: BERT=") and len(found) == 3


def test_a_recipe_differs_from_the_base_by_its_one_change(project):
    found = run_script(project, "best_recipe.sh", LAYERS="6")
    assert "finetune_pre" in found[0] and len(found) == 1 + 2 * 6 + 2
    stages = {}
    for flags in found[1:-2]:
        (folder,) = [f for f in flags if "_outputdir" in f and f.endswith("stage_1")][:1]
        name = folder.split("/")[-2]
        own = {f for f in flags if "outputdir" not in f}
        stages.setdefault(name, []).append(own)
    base_1, base_2 = stages.pop("base")
    assert {"distill_temperature=2", "distill_weight=0.9", "replace_until=0.8"} <= base_1
    assert "finetune_suc" in base_2 and not any(f.startswith("replace_") for f in base_2)
    changes = {name: (one ^ base_1, two ^ base_2) for name, (one, two) in stages.items()}
    assert changes == {
        "averaged": ({"ema_decay=0.999"}, {"ema_decay=0.999"}),
        "own_rate": ({"suc_learning_rate=0.0001"}, {"suc_learning_rate=0.0001"}),
        "early": ({"replace_until=0.8", "replace_until=0.3"}, set()),
        "start_last": ({"suc_init=last"}, set()),
        "start_spread": ({"suc_init=spread"}, set()),
    }


def test_two_recipes_replace_nothing_in_as_many_epochs(project):
    *_, alone, spread = run_script(project, "best_recipe.sh", LAYERS="6")
    root = "recipes/seed_42/"
    teacher = "out_tables/%spredecessor" % root
    own = ["distill_from=" + teacher, "distill_temperature=2", "distill_weight=0.9"]
    own += ["init_checkpoint=" + teacher, "suc_layers=6", "seed=42"]
    assert alone == training(2, root + "6_layers/alone", 14, *own)
    assert spread == training(2, root + "6_layers/alone_spread", 14, "suc_init=spread", *own)


def test_two_layers_are_also_made_by_way_of_six(project):
    root = "recipes/seed_42/"
    teacher = "out_tables/%spredecessor" % root
    distill = ["distill_from=" + teacher, "distill_temperature=2", "distill_weight=0.9"]
    own, root = distill + ["seed=42"], root + "2_layers/stepwise/"
    between = "out_tables/%sto_6" % root
    start = "init_checkpoint=" + teacher
    to_6, export, *to_2 = run_script(project, "best_recipe.sh", LAYERS="2")[1 + 2 * 6 + 2 :]
    assert to_6 == training(1, root + "to_6", 5, start, "suc_layers=6", *(own + LINEAR))
    export_flags = {"do_export", "export_format=bert", "suc_layers=6", "data_dir=data/lcqmc"}
    assert export == export_flags | {"stage_1_outputdir=" + between}
    small_bert = {"bert_pretrained_model=" + between + "/export/bert"}
    own.append("suc_layers=2")
    expected = [
        training(1, root + "stage_1", 5, *(own + LINEAR)),
        training(2, root + "stage_2", 4, starting(root + "stage_1"), *own),
    ]
    assert to_2 == [flags - {"bert_pretrained_model=" + BERT} | small_bert for flags in expected]


def test_the_program_takes_each_command_of_the_recipes(project, monkeypatch):
    """Those that export too, which need what defines the run."""
    made = []
    monkeypatch.setattr(command_lib, "run", lambda config, _: made.append(config))
    flags = "--max_seq_length=64 --log_steps=7"
    _, lines, _ = run_bash(project, "best_recipe.sh", LAYERS="2", FLAGS=flags)
    for line in lines:
        if line[0] == "run_classifier.py":
            command(" ".join(line[1:]), project, monkeypatch)
    assert len(made) == 1 + 2 * 6 + 2 + 4
    assert {config.max_seq_length for config in made} == {64}
    assert [config.export_format for config in made].count(("bert",)) == 1


def test_the_comparison_has_budgets_fixed_beforehand_and_keeps_the_last_checkpoint(project):
    more = dict(SEEDS="1 2", LAYERS="2", METHODS="subset trained_on replacing pretrained")
    status, lines, errors = run_bash(project, "comparison.sh", **more)
    assert (status, errors) == (0, "")
    samples = [line[1:] for line in lines if line[0] == "-"]
    data = "out_tables/data/50000_seed_%d"
    assert samples == [["data/lcqmc/train.txt", data % seed, "50000", str(seed)] for seed in (1, 2)]
    found = trainings(lines)
    assert len(found) == 2 * 6 and all("select_checkpoint=last" in flags for flags in found)
    for number, flags in enumerate(found):
        assert {"data_dir=" + data % (number // 6 + 1), "seed=%d" % (number // 6 + 1)} <= flags
    pre = "init_checkpoint=out_tables/comparison/seed_1/predecessor"
    expected = [
        {"finetune_pre", "num_train_epochs=6", "learning_rate=1e-4"},
        {"finetune_suc", "num_train_epochs=5", "learning_rate=3e-4", "suc_layers=2", pre},
        {"finetune_pre", "num_train_epochs=5", "learning_rate=1e-4", pre},
        {"num_train_epochs=3", "learning_rate=5e-5", "suc_learning_rate=3e-4", pre},
        {"finetune_suc", "num_train_epochs=2", "learning_rate=5e-5", "suc_learning_rate=3e-4"},
        {"finetune_suc", "num_train_epochs=11", "learning_rate=3e-4", "init_checkpoint=" + BERT},
    ]
    assert all(some <= flags for some, flags in zip(expected, found))
    assert {"replace_scheduler=linear", "replace_until=0.8"} <= found[3]
    assert all(sum(flag.startswith("learning_rate=") for flag in flags) == 1 for flags in found)


def test_the_comparisons_other_controls_differ_in_one_thing_each(project, monkeypatch):
    """Of 300 pairs in the sample and 700 beside it: 5 steps an epoch, and 16."""
    data = project / "out_tables" / "data" / "50000_seed_1"
    data.mkdir(parents=True)
    (data / "train.txt").write_text("a\tb\t1\n" * 300)
    (data / "rest.txt").write_text("a\tb\n" * 700)
    more = dict(SEEDS="1", LAYERS="2", METHODS="subset unlabelled short restarted layers once")
    status, lines, errors = run_bash(project, "comparison.sh", **more)
    assert (status, errors) == (0, "")
    _, subset, unlabelled, short, first, second, layers, once = (
        {flag for flag in flags if "outputdir" not in flag} for flags in trainings(lines)
    )
    root = "out_tables/comparison/seed_1/"
    pool = {"unlabelled_file=out_tables/data/50000_seed_1/rest.txt", "suc_init=spread"}
    pool |= {"distill_from=%spredecessor" % root, "distill_temperature=2", "distill_weight=0.9"}
    assert unlabelled - subset == pool | {"num_train_epochs=1.562500"}  # 25 steps of 16 an epoch.
    assert short ^ subset == {"num_train_epochs=2", "num_train_epochs=5"}
    assert first ^ subset == {"num_train_epochs=3", "num_train_epochs=5"}
    starts = {
        "init_checkpoint=%srestarted_2/stage_1" % root,
        "init_checkpoint=%spredecessor" % root,
    }
    assert second ^ short == starts
    assert layers ^ subset == {"train_scope=successor_layers"}
    rate = {"replace_scheduler=linear", "replace_rate_prob=0.3", "replace_until=0.667"}
    assert once ^ layers == rate | {"finetune_suc"}


def test_the_published_projects_two_stages_and_their_twin_start_from_the_pretrained_bert(project):
    more = dict(SEEDS="1", LAYERS="2", METHODS="replacing published pretrained_short")
    status, lines, errors = run_bash(project, "comparison.sh", **more)
    assert (status, errors) == (0, "")
    _, replacing, stage_2, published, published_2, twin = trainings(lines)
    roots = ["out_tables/comparison/seed_1/%s_2/" % name for name in ("replacing", "published")]
    by_folder = {"stage_1_outputdir=%sstage_1" % root for root in roots}
    starts = {"init_checkpoint=" + BERT, "init_checkpoint=out_tables/comparison/seed_1/predecessor"}
    rates = {"learning_rate=5e-5", "learning_rate=1e-4"}
    assert published ^ replacing == by_folder | starts | rates
    folders = {"stage_2_outputdir=%sstage_2" % root for root in roots}
    assert published_2 ^ stage_2 == by_folder | folders | rates
    assert {"finetune_suc", "num_train_epochs=5", "learning_rate=3e-4"} < twin
    assert "init_checkpoint=" + BERT in twin and not any("replace" in flag for flag in twin)
