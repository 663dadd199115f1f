"""threat-model.md and tests/threats say the same: one row a threat, one file a row, and nothing in it that is not
there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "threat-model.md"
PACKAGE = ROOT / "scsession_secure"
#: How ids of the requirements and of the attack catalogue look.
KNOWN = re.compile(
    r"""ASVS-\d{1,2}\.\d{1,2}\.\d{1,2} | WSTG-(SESS|ATHN|ATHZ)-\d\d[a-z]? | NIST-\d\.\d(\.\d)?(-[a-z0-9]+)?
    | (SMCS|CT|ACS|MFA|TX|WS|DOS|JWT|KS|DES|CSRF|FM|LV|LCS|COOK)-\d\d
    | (FIX|RACE|EXP|CACHE|PARSE|INJ|KEY|SER|FLT|LIFE|SIG|UA|META)-\d\d
    | (CHIPS|CSD|CACHE|DBSC)-\d | CWE-\d{2,4} | RFC[ ]\d{4}""",
    re.VERBOSE,
)


class Threat(NamedTuple):
    """One line of the table."""

    id: str
    threat: str
    control: str
    code: list[str]
    proof: str
    without: str | None
    more: list[str]
    ids: list[str]


def read() -> list[Threat]:
    rows = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| T\d", line):
            id, threat, control, code, proof, without, more, ids = (cell.strip() for cell in line.split("|")[1:-1])
            off = None if without == "-" else without.strip("`")
            rows.append(Threat(id, threat, control, quoted(code), proof.strip("`"), off, quoted(more), ids.split(", ")))
    return rows


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def found_in(path: Path) -> dict[str, str]:
    """The tests of a file with their docstrings; under "" that of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {"": ast.get_docstring(tree) or ""}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found[node.name] = ast.get_docstring(node) or ""
    return found


THREATS = read()
each = pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.id)


def test_ids_are_consecutive() -> None:
    """T01 to the last one, each once, in order."""
    assert [threat.id for threat in THREATS] == [f"T{n:02}" for n in range(1, len(THREATS) + 1)]
    assert len(THREATS) >= 40


def test_one_file_a_row() -> None:
    """Every file of a threat is the proof of one row, and every row has a file of its own, named after it."""
    files = {path.relative_to(ROOT).as_posix() for path in Path(__file__).parent.glob("test_T*.py")}
    proofs = [threat.proof.partition("::")[0] for threat in THREATS]
    assert sorted(proofs) == sorted(files)
    assert [Path(proof).name.split("_")[1] for proof in proofs] == [threat.id for threat in THREATS]


@each
def test_its_tests_exist(threat: Threat) -> None:
    """The proof, the same attack with the control off, and the files that go deeper."""
    path, _, name = threat.proof.partition("::")
    found = found_in(ROOT / path)
    assert name in found
    assert threat.without is None or threat.without in found
    assert found[""].startswith(f"{threat.id}: ")
    assert [more for more in threat.more if not (ROOT / more).is_file()] == []


@each
def test_its_code_exists(threat: Threat) -> None:
    """Every module that it names is in the package."""
    assert threat.code
    assert [name for name in threat.code if not (PACKAGE / name).is_file()] == []
    assert threat.threat.endswith((".", "?", "!"))
    assert threat.control


@each
def test_its_ids_are_known(threat: Threat) -> None:
    """Every id that it cites has the form of one, once; and the docstrings of its tests cite the same."""
    assert [id for id in threat.ids if not KNOWN.fullmatch(id)] == []
    assert len(set(threat.ids)) == len(threat.ids)
    path = ROOT / threat.proof.partition("::")[0]
    said = {match.group() for text in found_in(path).values() for match in KNOWN.finditer(text)}
    assert said == set(threat.ids)


def test_the_tests_can_fail() -> None:
    """Most of the attacks have been seen to succeed with their control switched off, and are in every run."""
    assert sum(threat.without is not None for threat in THREATS) >= 25


def test_what_the_text_names_exists() -> None:
    """Tests, modules and files that the rest of the page names are there, too."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for number, name in re.findall(r"`test_(T\d\d)`,\s+`(test_\w+)`", text):
        (path,) = Path(__file__).parent.glob(f"test_{number}_*.py")
        assert name in found_in(path), (number, name)
    for module in re.findall(r"\| `([a-z_/]+\.py)` \|$", text, re.MULTILINE):
        assert (PACKAGE / module).is_file(), module
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / link).exists(), link


def test_a_wrong_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks fail for a test, a module or an id that is not there."""
    good = THREATS[0]
    for check, wrong in (
        (test_its_tests_exist, good._replace(proof=good.proof + "_not")),
        (test_its_tests_exist, good._replace(without="test_nothing")),
        (test_its_code_exists, good._replace(code=["nothing.py"])),
        (test_its_ids_are_known, good._replace(ids=[*good.ids, "ASVS-7"])),
        (test_its_ids_are_known, good._replace(ids=good.ids[1:])),
    ):
        with pytest.raises(AssertionError):
            check(wrong)
    monkeypatch.setitem(globals(), "THREATS", THREATS[1:])
    with pytest.raises(AssertionError):
        test_ids_are_consecutive()
    with pytest.raises(AssertionError):
        test_one_file_a_row()
