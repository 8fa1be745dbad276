"""Checks that imports of folders and files only go from a floor to the floors below it."""

import ast
import glob
import io
import os

from conftest import ROOT, WITHOUT_TENSORFLOW

# From the top. Members of one floor do not import each other, except files of the same folder.
FLOORS = [
    ["run_classifier"],
    ["theseus.config"],
    ["theseus.commands"],
    ["theseus.classifier"],
    ["theseus.export", "theseus.training"],
    ["theseus.inference"],
    ["theseus.runs", "theseus.checkpoints", "theseus.distribution"],
    ["theseus.inputs"],
    ["optimization_theseus"],
    ["modeling_theseus", "tokenization"],
    ["theseus.model"],
    ["theseus.stage", "theseus.session", "theseus.cost"],
    ["theseus.machine"],
    [
        "theseus.records",
        "theseus.folder_lock",
        "theseus.limits",
        "theseus.quiet",
    ],
    ["theseus.errors"],
]


def place(module):
    """Returns (floor from the top, the floor's member) of a module; None for other packages."""
    for number, floor in enumerate(FLOORS):
        for member in floor:
            if (module + ".").startswith(member + "."):
                return number, member
    return None


def scripts():
    """Returns the paths of all programs besides the command line."""
    folders = [os.path.join(ROOT, "scripts", "**"), os.path.join(ROOT, "data")]
    paths = [glob.glob(os.path.join(folder, "*.py"), recursive=True) for folder in folders]
    return paths[0] + paths[1]


def modules():
    """Yields (name, path) of each of the program's modules."""
    for name in ("run_classifier", "modeling_theseus", "optimization_theseus", "tokenization"):
        yield name, os.path.join(ROOT, name + ".py")
    for folder, _, files in os.walk(os.path.join(ROOT, "theseus")):
        for file in files:
            if file.endswith(".py") and file != "__init__.py":
                path = os.path.join(folder, file)
                yield os.path.relpath(path, ROOT)[: -len(".py")].replace(os.sep, "."), path


def imported(path, at_once=False):
    """Yields the full name of each module, or member of one, that a file imports.

    With `at_once` what it imports as it is imported itself.
    """
    with io.open(path, encoding="utf-8") as reader:
        tree = ast.parse(reader.read())
    # Imports for the type checker do not count.
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "%s.%s" % (node.module, alias.name)


def test_every_module_has_a_floor():
    assert [name for name, _ in modules() if place(name) is None] == []


def test_imports_go_down():
    wrong = []
    for name, path in modules():
        floor, member = place(name)
        for target in imported(path):
            found = place(target)
            if found and found[1] != member and found[0] <= floor:
                wrong.append("%s imports %s" % (name, target))
    assert wrong == []


def test_no_function_class_or_file_has_outgrown_its_reader():
    paths = [path for _, path in modules()]
    paths += scripts()
    longest = {ast.FunctionDef: 50, ast.ClassDef: 150}
    for path in paths:
        with io.open(path, encoding="utf-8") as reader:
            text = reader.read()
        assert text.count("\n") <= 600, path
        for found in ast.walk(ast.parse(text)):
            # On Python 3.7 a node does not know its last line.
            if type(found) in longest and hasattr(found, "end_lineno"):
                length = found.end_lineno - found.lineno + 1
                assert length <= longest[type(found)], "%s: %s" % (path, found.name)


# The members of conftest.py that need TensorFlow.
OF_TENSORFLOW = {"session", "command", "refused", "assert_refused", "make_config", "write_bert"}
OF_TENSORFLOW |= {"write_stage", "write_start", "write_weights", "random_data", "export", "forks"}


def touches_tensorflow(path, ours):
    """Returns whether a test's file imports TensorFlow, directly or by a module of `ours`.

    Args:
      ours: mapping from the names of this project's modules to their paths.
    """
    with io.open(path, encoding="utf-8") as reader:
        tree = ast.parse(reader.read())
    waiting, reached = list(imported(path)), set()
    taken = {name.rpartition(".")[2] for name in waiting if name.startswith(("conftest.", "forks"))}
    taken |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}  # As fixtures.
    if taken & OF_TENSORFLOW:
        return True
    while waiting:
        name = waiting.pop()
        if name.split(".")[0] == "tensorflow":
            return True
        for module in (name, name.rpartition(".")[0]):
            if module in ours and module not in reached:
                reached.add(module)
                waiting += imported(ours[module], at_once=True)
    return False


def test_what_is_left_out_on_tensorflow_1_touches_no_tensorflow():
    ours = dict(modules())
    ours.update({os.path.basename(path)[: -len(".py")]: path for path in scripts()})
    paths = {name: os.path.join(ROOT, "tests", "test_%s.py" % name) for name in WITHOUT_TENSORFLOW}
    assert [name for name, path in paths.items() if touches_tensorflow(path, ours)] == []
    assert touches_tensorflow(os.path.join(ROOT, "tests", "test_curves.py"), ours)
    assert touches_tensorflow(os.path.join(ROOT, "tests", "test_serve.py"), ours)
