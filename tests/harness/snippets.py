"""The Python code of a Markdown page, so that it can be checked and run.

A fence "```python" is a whole program or module. A fragment that is none says "```python fragment" and is left out.

    python -m tests.harness.snippets FOLDER PAGE...      writes each snippet to a file, named after its page and line
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```python[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    line: int
    code: str


def snippets(page: str) -> list[Snippet]:
    """Every whole snippet of a page, with the line on which its code begins."""
    return [Snippet(page.count("\n", 0, found.start(1)) + 1, found[1]) for found in _FENCE.finditer(page)]


def write(folder: Path, pages: list[Path]) -> list[Path]:
    """Write the snippets of the pages to files of a folder that is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = []
    for page in pages:
        for snippet in snippets(page.read_text(encoding="utf-8")):
            path = folder / f"{page.stem.lower().replace('-', '_')}_line_{snippet.line}.py"
            path.write_text(snippet.code, encoding="utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    write(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
