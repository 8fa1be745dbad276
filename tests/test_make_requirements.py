"""Checks that the requirements files match pyproject.toml."""

import os

import pytest

import make_requirements
from conftest import ROOT


def test_the_files_are_those_of_pyproject():
    pytest.importorskip("tomllib")
    expected = make_requirements.requirements_files(make_requirements.read_project())
    present = [name for name in os.listdir(ROOT) if name.startswith("requirements")]
    assert sorted(present) == sorted(expected)
    for name, text in expected.items():
        with open(os.path.join(ROOT, name), encoding="utf-8") as reader:
            assert reader.read() == text, name


def test_an_extra_has_its_packages_and_the_extras_that_it_takes_in():
    extras = {
        "onnx": ["onnxruntime"],
        "train": ["tensorflow"],
        "export": ["bert-theseus[train,onnx]", "onnx"],
        "plot": ["matplotlib"],
        "test": ["bert-theseus[export,plot]", "pytest"],
    }
    project = {"dependencies": ["numpy"], "optional-dependencies": extras}
    found = make_requirements.requirements_files(project)
    lines = {name: text.splitlines()[1:] for name, text in found.items()}
    assert lines == {
        "requirements.txt": ["numpy", "tensorflow", "onnxruntime", "onnx"],
        "requirements-plot.txt": ["-r requirements.txt", "matplotlib"],
        "requirements-test.txt": ["-r requirements.txt", "matplotlib", "pytest"],
    }
