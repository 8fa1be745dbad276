"""Compresses a BERT classifier by module replacing (BERT-of-Theseus).

  python run_classifier.py --do_train --do_eval --suc_layers 6                   # stage 1
  python run_classifier.py --do_train --do_eval --suc_layers 6 --finetune_suc    # stage 2

--finetune_pre, before both, fine-tunes the predecessor itself (stage 0).
"""

import collections
import contextlib
import io
import os
import re
import sys
import time

# TensorFlow reads it when it is imported: errors only, unless the user asked for more.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow.compat.v1 as tf  # noqa: E402
from absl import app, flags, logging  # noqa: E402

import evaluation  # noqa: E402
import input_pipeline  # noqa: E402
import modeling_theseus  # noqa: E402
import tokenization  # noqa: E402
import training  # noqa: E402
import weights as weights_lib  # noqa: E402
from errors import UserError  # noqa: E402
from stage_folder import StageFolder, hash_files  # noqa: E402

FLAGS = flags.FLAGS

# Files.
flags.DEFINE_string(
    "data_dir", "data/sample", "Folder with train, dev and test, each .txt or .tsv."
)
flags.DEFINE_enum("task_name", "lcqmc_pair", sorted(input_pipeline.TASKS), "The task.")
flags.DEFINE_string(
    "bert_pretrained_model",
    "data/tiny_bert",
    "Folder with bert_config.json, vocab.txt and bert_model.ckpt*.",
)
flags.DEFINE_string(
    "init_checkpoint",
    None,
    "Weights to start from: a checkpoint's prefix, or a stage's folder, which means its best. "
    "Unset: the pretrained BERT in stages 0 and 1, stage 1's best in stage 2.",
)
flags.DEFINE_string("stage_0_outputdir", "out_0", "Output folder of --finetune_pre.")
flags.DEFINE_string("stage_1_outputdir", "out_1", "Output folder of module replacing.")
flags.DEFINE_string("stage_2_outputdir", "out_2", "Output folder of --finetune_suc.")
flags.DEFINE_list("eval_files", [], "Labelled files that --do_eval evaluates too, each by itself.")
flags.DEFINE_string("predict_file", None, "File for --do_predict. Unset: data_dir's test.")

# Verbs.
flags.DEFINE_bool("do_train", False, "Train the stage, or go on where it was interrupted.")
flags.DEFINE_bool("do_eval", False, "Evaluate the stage's best checkpoint.")
flags.DEFINE_bool("do_predict", False, "Write the best checkpoint's predictions.tsv.")
flags.DEFINE_enum("eval_split", "dev", ["dev", "test"], "What --do_eval evaluates.")

# Stage.
flags.DEFINE_bool("finetune_pre", False, "Stage 0: fine-tune the predecessor.")
flags.DEFINE_bool("finetune_suc", False, "Stage 2: train the successor alone.")

# Method.
flags.DEFINE_integer("suc_layers", 6, "Layers of the successor.", lower_bound=1)
flags.DEFINE_float(
    "replace_rate_prob",
    0.5,
    "Probability that a module is replaced; with a linear rate, that of the first step.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_enum(
    "replace_scheduler", "constant", ["constant", "linear"], "How the replacing rate goes."
)
flags.DEFINE_float("replace_linear_k", None, "Rise of a linear rate in each step.", lower_bound=0.0)
flags.DEFINE_float(
    "replace_until",
    None,
    "Fraction of the training at which a linear rate reaches 1.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "steps_for_replacing",
    None,
    "Steps after which a constant rate becomes 1. Unset: never.",
    lower_bound=0,
)
flags.DEFINE_enum(
    "train_scope",
    None,
    modeling_theseus.TRAIN_SCOPES,
    "What trains: all; successor: all but the predecessor's encoder; successor_layers: the "
    "successor's encoder alone, as in the paper. Unset: all in stages 0 and 1, successor in 2.",
)

# Training.
flags.DEFINE_integer(
    "max_seq_length", 128, "Longest pair in tokens, [CLS] and both [SEP] included.", lower_bound=5
)
flags.DEFINE_integer("train_batch_size", 64, "Pairs in a step.", lower_bound=1)
flags.DEFINE_integer("eval_batch_size", 64, "Pairs in a batch of --do_eval.", lower_bound=1)
flags.DEFINE_integer("predict_batch_size", 1024, "Pairs in a batch of --do_predict.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-5, "Learning rate after the warm-up.", lower_bound=0.0)
flags.DEFINE_float("num_train_epochs", 10, "Passes over the training data.", lower_bound=0.0)
flags.DEFINE_float(
    "warmup_proportion",
    0.1,
    "Fraction of the training in which the learning rate rises.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "max_train_examples",
    None,
    "Train on a random sample of this size, the same for every seed. Unset: on all.",
    lower_bound=1,
)
flags.DEFINE_integer("seed", 42, "Seed of everything random.", lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_bool("do_lower_case", True, "Lower the case and strip accents.")
flags.DEFINE_integer("log_steps", 50, "Steps between two lines of the log.", lower_bound=1)
flags.DEFINE_integer(
    "save_checkpoints_steps", None, "Save every so many steps too. Unset: not.", lower_bound=1
)
flags.DEFINE_float("save_checkpoints_secs", 600, "Save every so many seconds.", lower_bound=0.0)
flags.DEFINE_bool(
    "pad_to_max_length", False, "Pad to max_seq_length, not to the longest pair of a batch."
)


def _rule(names, message):
    """Declares a rule over several flags; the function gets their values as a dict."""

    def register(is_met):
        flags.register_multi_flags_validator(names, is_met, message)
        return is_met

    return register


@_rule(["do_train", "do_eval", "do_predict"], "give at least one of them")
def _has_verb(values):
    return any(values.values())


@_rule(["finetune_pre", "finetune_suc"], "give one of them at the most")
def _is_one_stage(values):
    return not all(values.values())


@_rule(
    ["replace_scheduler", "replace_linear_k", "replace_until"],
    "a linear rate takes exactly one of --replace_linear_k and --replace_until, above 0; "
    "a constant one takes neither",
)
def _has_one_slope(values):
    slopes = [values["replace_linear_k"], values["replace_until"]]
    given = [slope for slope in slopes if slope is not None]
    if values["replace_scheduler"] == "constant":
        return not given
    return len(given) == 1 and given[0] > 0


@_rule(
    ["replace_scheduler", "steps_for_replacing"],
    "--steps_for_replacing is for a constant rate",
)
def _ends_constant_rate(values):
    return values["steps_for_replacing"] is None or values["replace_scheduler"] == "constant"


@_rule(["num_train_epochs"], "must be above 0")
def _trains(values):
    return values["num_train_epochs"] > 0


@_rule(["finetune_pre", "train_scope"], "stage 0 trains all; it has no successor")
def _fits_stage_0(values):
    return not values["finetune_pre"] or values["train_scope"] in (None, "all")


Model = collections.namedtuple("Model", "config vocab_file")
"""A BERT's shape and vocabulary: a modeling_theseus.BertConfig, and the path of vocab.txt."""

# The parts of a run's definition that a trained model cannot be used without.
_MODEL_KEYS = ("stage", "task_name", "suc_layers", "max_seq_length", "do_lower_case")
# Whose flag a part of the definition comes from, where the names differ.
_FLAG_OF = {
    "train_data": "--data_dir or --max_train_examples: the training data's hash",
    "dev_data": "--data_dir: the dev data's hash",
    "weights": "--init_checkpoint or --bert_pretrained_model: the starting weights' hash",
    "bert_config": "--bert_pretrained_model: bert_config.json",
    "vocab": "--bert_pretrained_model: vocab.txt's hash",
    "stage": "--finetune_pre or --finetune_suc: the stage",
    "padded_length": "--pad_to_max_length: the padded length",
}


def stage_and_folder():
    """Returns the stage that the flags name, and its StageFolder."""
    if FLAGS.finetune_pre:
        return training.PREDECESSOR, StageFolder(FLAGS.stage_0_outputdir, "stage_0_outputdir")
    if FLAGS.finetune_suc:
        return training.SUCCESSOR, StageFolder(FLAGS.stage_2_outputdir, "stage_2_outputdir")
    return training.REPLACING, StageFolder(FLAGS.stage_1_outputdir, "stage_1_outputdir")


def starting_point(stage):
    """Returns (Model, prefix of the checkpoint) that training starts from.

    A stage's folder brings the config and the vocabulary that it was trained with.
    """
    source = None
    if FLAGS.init_checkpoint:
        if os.path.isdir(FLAGS.init_checkpoint):
            source = StageFolder(FLAGS.init_checkpoint, "init_checkpoint")
    elif stage == training.SUCCESSOR:
        source = StageFolder(FLAGS.stage_1_outputdir, "stage_1_outputdir")
    if source is None:
        path = FLAGS.init_checkpoint or FLAGS.bert_pretrained_model
        if not os.path.isdir(FLAGS.bert_pretrained_model):
            raise UserError(
                "--bert_pretrained_model: %s is no folder" % FLAGS.bert_pretrained_model
            )
        return read_model(FLAGS.bert_pretrained_model), weights_lib.find_checkpoint(path)

    prefix = source.best_checkpoint()
    held = source.run()["suc_layers"]
    if stage == training.SUCCESSOR and held not in (None, FLAGS.suc_layers):
        raise UserError(
            "--suc_layers: %s holds a successor of %d layers, this command has %d"
            % (source.path, held, FLAGS.suc_layers)
        )
    return read_trained_model(source), prefix


def read_trained_model(folder):
    """Reads the Model of a StageFolder; UserError if the command names another BERT."""
    model = read_model(folder.path)
    if FLAGS["bert_pretrained_model"].present:
        named = read_model(FLAGS.bert_pretrained_model)
        same_vocab = hash_files([named.vocab_file]) == hash_files([model.vocab_file])
        if not same_vocab or named.config.to_dict() != model.config.to_dict():
            raise UserError(
                "--bert_pretrained_model: %s was trained with another vocabulary or config than %s"
                % (folder.path, FLAGS.bert_pretrained_model)
            )
    return model


def read_model(folder):
    """Reads the Model that a pretrained BERT's or a stage's folder holds."""
    config = modeling_theseus.BertConfig.from_json_file(os.path.join(folder, "bert_config.json"))
    if FLAGS.max_seq_length > config.max_position_embeddings:
        raise UserError(
            "--max_seq_length=%d: this BERT has %d positions; give at most that"
            % (FLAGS.max_seq_length, config.max_position_embeddings)
        )
    return Model(config, os.path.join(folder, "vocab.txt"))


def make_tokenizer(model):
    """Returns the FullTokenizer of a Model; UserError where the vocabulary does not fit."""
    tokenizer = tokenization.FullTokenizer(model.vocab_file, FLAGS.do_lower_case)
    absent = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in tokenizer.vocab]
    if absent:
        raise UserError("%s: holds no %s" % (model.vocab_file, ", ".join(absent)))
    if max(tokenizer.inv_vocab) >= model.config.vocab_size:
        raise UserError(
            "%s: holds %d tokens, bert_config.json says %d"
            % (model.vocab_file, max(tokenizer.inv_vocab) + 1, model.config.vocab_size)
        )
    return tokenizer


def make_settings(stage):
    """Returns the training.Settings that the flags give; what a stage has no use for is None."""
    replacing = stage == training.REPLACING
    return training.Settings(
        stage=stage,
        train_scope=FLAGS.train_scope or ("successor" if stage == training.SUCCESSOR else "all"),
        learning_rate=FLAGS.learning_rate,
        num_train_epochs=FLAGS.num_train_epochs,
        warmup_proportion=FLAGS.warmup_proportion,
        train_batch_size=FLAGS.train_batch_size,
        seed=FLAGS.seed,
        padded_length=FLAGS.max_seq_length if FLAGS.pad_to_max_length else None,
        replace_rate_prob=FLAGS.replace_rate_prob if replacing else None,
        replace_linear_k=FLAGS.replace_linear_k if replacing else None,
        replace_until=FLAGS.replace_until if replacing else None,
        steps_for_replacing=FLAGS.steps_for_replacing if replacing else None,
    )


def model_definition(stage):
    """Returns what a trained model cannot be used without, as a dict."""
    values = {key: FLAGS[key].value for key in _MODEL_KEYS if key in FLAGS}
    suc_layers = None if stage == training.PREDECESSOR else FLAGS.suc_layers
    return dict(values, stage=stage, suc_layers=suc_layers)


def run_definition(settings, model, prefix):
    """Returns all that defines a run of training, as a dict of JSON values."""
    definition = model_definition(settings.stage)
    definition.update(vars(settings))
    definition.update(
        max_train_examples=FLAGS.max_train_examples,
        precision="float32",
        train_data=hash_files([input_pipeline.find_split(FLAGS.data_dir, "train")]),
        dev_data=hash_files([input_pipeline.find_split(FLAGS.data_dir, "dev")]),
        bert_config=model.config.to_dict(),
        vocab=hash_files([model.vocab_file]),
        weights=hash_files(weights_lib.checkpoint_files(prefix)),
    )
    return definition


def make_groups(stage, config):
    """Returns the groups of the predecessor's layers; in stage 0 each is by itself."""
    layers = config.num_hidden_layers
    num_modules = layers if stage == training.PREDECESSOR else FLAGS.suc_layers
    return modeling_theseus.equal_groups(layers, num_modules)


def read_file(path, labels_required=True):
    """Returns the examples of a file in the task's format."""
    return input_pipeline.read_examples(
        path, input_pipeline.TASKS[FLAGS.task_name], labels_required
    )


def encode(examples, tokenizer):
    """Returns examples as input_pipeline.EncodedExamples."""
    task = input_pipeline.TASKS[FLAGS.task_name]
    return input_pipeline.EncodedExamples(examples, task, tokenizer, FLAGS.max_seq_length)


def num_labels():
    """Returns the number of the task's labels."""
    return len(input_pipeline.TASKS[FLAGS.task_name].labels)


@contextlib.contextmanager
def new_session():
    """A session over a new graph, which is the default one inside."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        yield session


def do_train(stage, folder):
    """Trains a stage to its end, from wherever it stands, and prints its evaluations."""
    settings = make_settings(stage)
    model, prefix = starting_point(stage)
    groups = make_groups(stage, model.config)
    definition = run_definition(settings, model, prefix)
    folder.refuse_contradiction(definition, _FLAG_OF)

    tokenizer = make_tokenizer(model)
    examples = read_file(input_pipeline.find_split(FLAGS.data_dir, "train"))
    examples = input_pipeline.sample_examples(examples, FLAGS.max_train_examples)
    train_data = encode(examples, tokenizer)
    dev_data = encode(read_file(input_pipeline.find_split(FLAGS.data_dir, "dev")), tokenizer)
    steps_per_epoch, num_steps = training.num_steps(settings, len(train_data))

    state = folder.state()
    if not _is_finished(state, num_steps):
        logging.info("stage %s: %d steps on %d pairs", stage, num_steps, len(train_data))
        source = weights_lib.CheckpointWeights(prefix)
        with new_session() as session:
            graph = training.build_graph(settings, model.config, num_labels(), groups, num_steps)
            variables = tf.trainable_variables()
            fit = training.prepare_weights(settings, source, variables)
            folder.claim(definition, _model_files(model))
            trainer = training.Trainer(
                settings, _reporting(), graph, train_data, dev_data, folder, session
            )
            if state["last"] is None:
                logging.info("%s", weights_lib.report(fit, source))
            logging.info("%s", training.describe_variables(graph.trained, variables))
            trainer.initialize(source, fit.sources)
            if not trainer.run():
                raise UserError(
                    "stopped and saved in %s; the same command goes on from there" % folder.path
                )
        seconds = folder.state()["train_seconds"]
        speed = len(train_data) * FLAGS.num_train_epochs / seconds
        folder.update_json("timing.json", train_seconds=seconds, train_examples_per_second=speed)
    print(training.evaluations_table(folder.state(), steps_per_epoch))


def _is_finished(state, num_steps):
    return any(entry["global_step"] == num_steps for entry in state["evaluations"])


def _reporting():
    return training.Reporting(
        eval_batch_size=FLAGS.eval_batch_size,
        log_steps=FLAGS.log_steps,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        save_checkpoints_secs=FLAGS.save_checkpoints_secs,
    )


def _model_files(model):
    with io.open(model.vocab_file, encoding="utf-8", newline="\n") as reader:
        return {"bert_config.json": model.config.to_json_string(), "vocab.txt": reader.read()}


@contextlib.contextmanager
def trained_classifier(stage, folder):
    """Loads a stage's best checkpoint; yields (session, EvaluationGraph, tokenizer)."""
    prefix = folder.best_checkpoint()
    folder.refuse_contradiction(model_definition(stage), _FLAG_OF, only=_MODEL_KEYS)
    model = read_trained_model(folder)
    groups = make_groups(stage, model.config)
    source = weights_lib.CheckpointWeights(prefix)
    with new_session() as session:
        path = training.evaluated_path(stage, groups)
        graph = evaluation.build_graph(model.config, num_labels(), groups, path)
        variables = tf.trainable_variables()
        sources = collections.OrderedDict((v.op.name, v.op.name) for v in variables)
        weights_lib.match(variables, source, sources)
        weights_lib.load(session, variables, source, sources)
        yield session, graph, make_tokenizer(model)


def do_eval(stage, folder, eval_sets):
    """Evaluates the best checkpoint; prints a table and writes eval_results.json.

    Args:
      stage, folder: as from `stage_and_folder`.
      eval_sets: OrderedDict from name to labelled examples, that of --eval_split first.
    """
    results, seconds = collections.OrderedDict(), 0.0
    with trained_classifier(stage, folder) as (session, graph, tokenizer):
        for name, examples in eval_sets.items():
            encoded = encode(examples, tokenizer)
            results[name], spent = evaluation.evaluate(
                session, graph, encoded, FLAGS.eval_batch_size, _padded_length(), name
            )
            seconds += spent
    best = folder.state()["best"]
    report = collections.OrderedDict(split=FLAGS.eval_split, **results[FLAGS.eval_split])
    report.update(global_step=best["global_step"], checkpoint=best["checkpoint"])
    report["eval_files"] = {path: results[path] for path in FLAGS.eval_files}
    folder.write_json("eval_results.json", report)
    examples = sum(metrics["num_examples"] for metrics in results.values())
    folder.update_json(
        "timing.json", eval_seconds=seconds, eval_examples_per_second=examples / seconds
    )
    print(evaluation.format_table(list(results.items())))


def do_predict(stage, folder, examples):
    """Writes predictions.tsv for examples, labelled or not, in their order."""
    start = time.perf_counter()
    with trained_classifier(stage, folder) as (session, graph, tokenizer):
        encoded = encode(examples, tokenizer)
        logits = evaluation.compute_logits(
            session, graph, encoded, FLAGS.predict_batch_size, _padded_length(), "predict"
        )
    with folder.writing("predictions.tsv") as writer:
        task = input_pipeline.TASKS[FLAGS.task_name]
        evaluation.write_predictions(writer, task, examples, logits)
    folder.update_json("timing.json", predict_seconds=time.perf_counter() - start)
    print("%d predictions in %s" % (len(examples), folder.file("predictions.tsv")))


def _padded_length():
    return FLAGS.max_seq_length if FLAGS.pad_to_max_length else None


def read_eval_sets():
    """Returns an OrderedDict from name to examples: --eval_split, then each of --eval_files."""
    eval_sets = collections.OrderedDict()
    eval_sets[FLAGS.eval_split] = read_file(
        input_pipeline.find_split(FLAGS.data_dir, FLAGS.eval_split)
    )
    for path in FLAGS.eval_files:
        eval_sets[path] = read_file(path)
    return eval_sets


def run():
    """Carries out the verbs that the flags name."""
    stage, folder = stage_and_folder()
    # All files are read before the training, which may take hours, can fail for one.
    eval_sets = read_eval_sets() if FLAGS.do_eval else None
    predict_examples = None
    if FLAGS.do_predict:
        path = FLAGS.predict_file or input_pipeline.find_split(FLAGS.data_dir, "test")
        predict_examples = read_file(path, labels_required=False)
    if not FLAGS.do_train:
        folder.best_checkpoint()
    with folder.locked():
        if FLAGS.do_train:
            do_train(stage, folder)
        if FLAGS.do_eval:
            do_eval(stage, folder, eval_sets)
        if FLAGS.do_predict:
            do_predict(stage, folder, predict_examples)


def parse_flags(argv):
    """Parses the command line; a mistake in it is one line and exit status 1."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        fail(error)


def refuse_positional(arguments):
    """Exits with the flag that was meant, for `suc_layers = 6` without its dashes."""
    meant = re.match(r"(\w+)=?(\S*)$", "".join(arguments[:3]))
    if meant and meant.group(1) in FLAGS and meant.group(2):
        fail("%r is no flag; did you mean --%s=%s?" % (" ".join(arguments[:3]), *meant.groups()))
    fail("%r is no flag; flags begin with --, see --help" % arguments[0])


def fail(message):
    """Exits with status 1 and one line on standard error."""
    sys.exit("run_classifier.py: %s" % " ".join(str(message).split()))


def main(argv):
    """Runs the command; what the user can mend ends in one line."""
    if len(argv) > 1:
        refuse_positional(argv[1:])
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(None)
    tf.get_logger().setLevel("ERROR")
    tf.disable_v2_behavior()
    tf.enable_resource_variables()
    try:
        run()
    except UserError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on from the last checkpoint")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
