"""docs/asvs-v7.md, docs/standards.md and the tests say the same: each row of the standards once, with tests that exist
and name it, or with the reason why there is none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
#: The requirements of V7: so many in each section.
V7 = [f"ASVS-7.{section}.{n}" for section, rows in enumerate((3, 4, 2, 5, 3, 2), 1) for n in range(1, rows + 1)]
#: Rows of the other standards: what an id begins with, and how it goes on.
OTHERS = {
    "CT-0": "1 2 3 4 5",
    "ACS-0": "1 2 3 4",
    "MFA-0": "1 2",
    "FP-0": "1 2 3",
    "TX-0": "1 2 3 4 5",
    "WS-0": "1 2 3",
    "DOS-0": "1 2",
    "JWT-0": "1 2 3",
    "KS-0": "1 2",
    "DES-0": "1",
    "MT-0": "1",
    "WSTG-SESS-": "01a 01b 01c 01d 01e 01f 02 03a 03b 03c 04a 04b 04c 05a 05b 06a 06b 06c 07a 07b 07c 08 09a 09b 09c"
    " 10a 10b 11a 11b",
    "WSTG-ATH": "N-05 N-06 Z-03",
    "NIST-": "2.1.3 2.2.3a 2.2.3b 2.3.3",
    "NIST-5.1-": "a b c d e f g h i j k l m n",
    "NIST-5.1.": "1-1 1-2 1-3 1-4 1-5 1-6 1-7 2",
    "NIST-5.": "2-a 2-b 2-c 2-d 2-e 2-f 3-a 3-b",
}
#: Not met in this version, or nobody's business here. A row without a test that is not here is forgotten.
WITHOUT = {"CT-05", "NIST-2.2.3b", "NIST-5.1-k", "NIST-5.1-l", "WSTG-SESS-09b"}


class Line(NamedTuple):
    """One line of a table: the cells between the id and the last one, which names tests or gives the reason."""

    id: str
    cells: tuple[str, ...]
    last: str

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(tests/[^`]+)`", self.last)


def lines_of(document: str) -> list[Line]:
    rows = (ROOT / "docs" / document).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if re.match(r"\| [A-Z]+-", row)]
    return [Line(id, tuple(between), last) for id, *between, last in cells]


@cache
def found_in(path: Path) -> dict[str, str]:
    """The tests of a file, those of classes as `Class::test_it`, with their docstrings."""
    return dict(_found(ast.parse(path.read_text(encoding="utf-8")), ""))


def _found(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str]]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            yield from _found(node, f"{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name, ast.get_docstring(node) or ""


def names(docstring: str, id: str) -> bool:
    """Whether it is there as a whole: NIST-5.1-a is not NIST-5.1-ab, nor NIST-5.1 the beginning of NIST-5.1.1-1."""
    return re.search(rf"(?<![\w.-]){re.escape(id)}(?![\w-]|\.\w)", docstring) is not None


LINES = {document: lines_of(document) for document in ("asvs-v7.md", "standards.md")}
each = pytest.mark.parametrize("line", [line for lines in LINES.values() for line in lines], ids=lambda line: line.id)


def test_every_row_of_v7_is_there_once() -> None:
    """All 19, in order, each with its level, what it asks, and who does what."""
    lines = LINES["asvs-v7.md"]
    assert [line.id for line in lines] == V7
    assert len(V7) == 19
    assert {(len(line.cells), line.cells[0] in {"1", "2", "3"}, all(line.cells)) for line in lines} == {(4, True, True)}


def test_every_row_of_the_others_is_there_once() -> None:
    """In the order of the documents, each with what it asks and by whom it is met."""
    lines = LINES["standards.md"]
    assert [line.id for line in lines] == [start + end for start, ends in OTHERS.items() for end in ends.split()]
    assert {(len(line.cells), line.cells[-1]) for line in lines} == {
        (2, by) for by in ("library", "both", "application")
    }


@each
def test_its_tests_name_it(line: Line) -> None:
    """Every test that a row lists exists, and its docstring names the row."""
    for test in line.tests:
        path, _, name = test.partition("::")
        found = found_in(ROOT / path)
        assert name in found, test
        assert names(found[name], line.id), f"{test} does not name {line.id}"


def test_what_has_no_test_says_why() -> None:
    """Only the rows that are listed here have none, and they have a sentence."""
    untested = {line.id: line.last for lines in LINES.values() for line in lines if not line.tests}
    assert untested.keys() == WITHOUT
    assert [id for id, reason in untested.items() if not reason.endswith(".")] == []


def test_every_test_here_belongs_to_a_row() -> None:
    """A test of this folder that no row lists, or that names a row which does not list it, is a mistake."""
    listed = {(test, line.id) for lines in LINES.values() for line in lines for test in line.tests}
    known = [line.id for lines in LINES.values() for line in lines]
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name != Path(__file__).name:
            for name, docstring in found_in(path).items():
                test = f"{path.relative_to(ROOT).as_posix()}::{name}"
                said = {(test, id) for id in known if names(docstring, id)}
                assert said, test
                assert said <= listed, said - listed


def test_a_wrong_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks fail for a row that is missing or twice, for a test that is not there, and for one of another row."""
    first, second = LINES["asvs-v7.md"][:2]
    for wrong in (first._replace(last=f"`{first.tests[0]}_not`"), first._replace(last=second.last)):
        with pytest.raises(AssertionError):
            test_its_tests_name_it(wrong)
    for lines in ([second, *LINES["asvs-v7.md"][1:]], LINES["asvs-v7.md"][1:]):
        monkeypatch.setitem(LINES, "asvs-v7.md", lines)
        with pytest.raises(AssertionError):
            test_every_row_of_v7_is_there_once()
        with pytest.raises(AssertionError):
            test_every_test_here_belongs_to_a_row()
    monkeypatch.setitem(LINES, "asvs-v7.md", [first._replace(last="Later.")])
    with pytest.raises(AssertionError):
        test_what_has_no_test_says_why()


@pytest.mark.parametrize(
    ("docstring", "named"),
    [("NIST-5.1-a: yes", True), ("(x, NIST-5.1-a).", True), ("NIST-5.1-ab", False), ("XNIST-5.1-a", False)],
)
def test_an_id_is_named_as_a_whole(docstring: str, named: bool) -> None:
    """A part of another id is not this one."""
    assert names(docstring, "NIST-5.1-a") is named
    assert not names("NIST-5.1.1-1", "NIST-5.1")
