"""Writes the requirements files from pyproject.toml, the one place where packages are listed.

    python scripts/dev/make_requirements.py

requirements.txt has what the program needs, requirements-<extra>.txt an extra's packages.
Needs Python 3.11.
"""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_HEADER = "# Written by scripts/dev/make_requirements.py from pyproject.toml.\n"


def requirements_files(project):
    """Returns the text of each requirements file by its name.

    Args:
      project: dict, the table [project] of pyproject.toml.
    """
    lines = {"requirements.txt": project["dependencies"]}
    for extra, packages in project["optional-dependencies"].items():
        lines["requirements-%s.txt" % extra] = ["-r requirements.txt"] + list(_expand(packages))
    return {name: _HEADER + "\n".join(found) + "\n" for name, found in lines.items()}


def _expand(packages):
    """Yields the lines of an extra, which may take in other extras of this project."""
    for package in packages:
        others = re.match(r"bert-theseus\[(.*)\]$", package)
        if others:
            for extra in others.group(1).split(","):
                yield "-r requirements-%s.txt" % extra
        else:
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
