"""Writes the tables of docs/flags.md from the declarations of the flags.

python scripts/dev/make_flags_page.py
"""

import io
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

from theseus.config.help import markdown  # noqa: E402

PAGE = os.path.join(ROOT, "docs", "flags.md")


def main():
    """Puts the tables between the page's first paragraph and its part on the scripts."""
    with io.open(PAGE, encoding="utf-8") as reader:
        page = reader.read()
    head, scripts = re.match(r"(.*?\n)## .*?(\n## Scripts\n.*)", page, re.S).groups()
    with io.open(PAGE, "w", encoding="utf-8") as writer:
        writer.write(head + markdown() + "\n" + scripts)


if __name__ == "__main__":
    main()
