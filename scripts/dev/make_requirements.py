"""Writes the requirements files from pyproject.toml, the one place where packages are listed.

    python scripts/dev/make_requirements.py

requirements.txt has the packages for training and exporting, which are the extra `export`.
requirements-<extra>.txt has the additional packages of another extra. It needs Python 3.11.
"""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_IN_REQUIREMENTS = ("export", "onnx", "train")
_HEADER = "# Written by scripts/dev/make_requirements.py from pyproject.toml.\n"


def requirements_files(project):
    """Returns the text of each requirements file by its name.

    Args:
      project: dict, the table [project] of pyproject.toml.
    """
    extras = project["optional-dependencies"]
    lines = {"requirements.txt": project["dependencies"] + list(_expand("export", extras))}
    for extra in set(extras) - set(_IN_REQUIREMENTS):
        own = [line for line in _expand(extra, extras) if line not in lines["requirements.txt"]]
        lines["requirements-%s.txt" % extra] = ["-r requirements.txt"] + own
    return {name: _HEADER + "\n".join(found) + "\n" for name, found in lines.items()}


def _expand(extra, extras):
    """Yields the packages of an extra, including those of other extras that it names."""
    for package in extras[extra]:
        others = re.match(r"bert-theseus\[(.*)\]$", package)
        for other in others.group(1).split(",") if others else ():
            yield from _expand(other, extras)
        if not others:
            yield package


def read_project():
    """Returns the table [project] of pyproject.toml, a dict."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as reader:
        return tomllib.load(reader)["project"]


def main():
    for name, text in requirements_files(read_project()).items():
        with open(os.path.join(ROOT, name), "w", encoding="utf-8") as writer:
            writer.write(text)


if __name__ == "__main__":
    main()
