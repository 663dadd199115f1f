from __future__ import annotations

from .snippets import snippets, write

PAGE = """# Title

```python
a = 1
```

```python fragment
...
```

```
b
```
```python
c = 1
```
"""


def test_whole_snippets_are_found_with_their_lines():
    assert snippets(PAGE) == [(4, "a = 1\n"), (15, "c = 1\n")]


def test_they_are_written_to_files_that_name_their_place(tmp_path):
    page = tmp_path / "READ-ME.md"
    page.write_text(PAGE)
    written = write(tmp_path / "out", [page])
    assert [path.name for path in written] == ["read_me_line_4.py", "read_me_line_15.py"]
