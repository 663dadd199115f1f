"""A page as a person or a script meets it: its forms, its words, and what is wrong with its HTML."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "hr"}
BLIND = {"script", "style", "template", "svg", "title"}


class Form:
    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        #: What a browser would send, were the first button pressed and nothing typed.
        self.fields: dict[str, str] = {}


class Page(HTMLParser):
    """`text`, `notices`, `forms` (by action), `links`, `title`, and `problems`: a list that should be empty."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.notices: list[str] = []
        self.problems: list[str] = []
        self.attributes: dict[str, dict[str, str]] = {}
        self._words: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._ids: set[str] = set()
        self._labelled: set[str] = set()
        self._inputs: list[str] = []
        self._headings: list[int] = []
        self.title = ""
        self.feed(html)
        self.close()
        self._judge(html)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    def form(self, action: str) -> Form:
        """The first form that is sent there."""
        return next(form for form in self.forms if form.action == action)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._check(tag, {name: value or "" for name, value in attrs})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if len(given) != len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        self._check(tag, given)
        if tag not in VOID:
            self._open.append((tag, given))
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get")))
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif tag in {"input", "button"} and self._inside("form") and "name" in given:
            if given.get("type") not in {"radio", "checkbox"} or "checked" in given:
                self.forms[-1].fields.setdefault(given["name"], given.get("value", ""))
        elif tag[0] == "h" and tag[1:].isdigit() and not self._inside("template"):
            self._headings.append(int(tag[1:]))
        if tag == "p" and "notice" in given.get("class", "").split() and "hidden" not in given:
            self.notices.append("")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1][0] if self._open else 'nothing'}")
        elif tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._inside("title"):
            self.title += data
        if any(self._inside(tag) for tag in BLIND) or any("hidden" in given for _, given in self._open):
            return
        self._words.append(data)
        if any(tag == "p" and "notice" in given.get("class", "").split() for tag, given in self._open):
            self.notices[-1] = " ".join(f"{self.notices[-1]} {data}".split())

    def _inside(self, tag: str) -> bool:
        return any(opened == tag for opened, _ in self._open)

    def _check(self, tag: str, given: dict[str, str]) -> None:
        self.attributes.setdefault(tag, given)
        if "style" in given or any(name.startswith("on") for name in given):
            self.problems.append(f"<{tag}> has a style or a handler in the page")
        for name in ("href", "src", "action"):
            if name in given and not given[name].startswith(("/", "#")):
                self.problems.append(f"<{tag}> leads elsewhere: {given[name]}")
        if tag == "script" and "src" not in given:
            self.problems.append("a script stands in the page")
        if "id" in given:
            if given["id"] in self._ids:
                self.problems.append(f"two have the id {given['id']}")
            self._ids.add(given["id"])
        if tag == "label" and "for" in given:
            self._labelled.add(given["for"])
        if tag == "input" and given.get("type") != "hidden" and "hidden" not in given and not self._inside("label"):
            self._inputs.append(given.get("id", ""))

    def _judge(self, html: str) -> None:
        if not html.lstrip().startswith("<!doctype html>"):
            self.problems.append("no doctype")
        if self._open:
            self.problems.append(f"left open: {[tag for tag, _ in self._open]}")
        self.problems += [f"no label for input {id!r}" for id in self._inputs if id not in self._labelled]
        if self._headings.count(1) != 1:
            self.problems.append(f"{self._headings.count(1)} headings of the first level")
        for before, after in zip(self._headings, self._headings[1:], strict=False):
            if after > before + 1:
                self.problems.append(f"h{after} follows h{before}")
        if not self.title.strip():
            self.problems.append("no title")
