"""One template: its source is read and checked, then rendered to chat messages.

A template declares its variables on the first line and is split into sections, one per message:

    {# variables: conversation, question #}
    --- system
    You compare …
    --- user
    {{ question }}

The *source* is split, before anything is rendered, so that no rendered value can start a section.
Sections are strict, sandboxed Jinja without globals, includes or imported macros: one file holds
all its words, and its fingerprint covers them. Whatever ``{{ }}`` prints is neutralised; text
written by models or users must go through the ``fence`` filter as well.
"""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rlaif.config import nearest, read_text
from rlaif.errors import RenderError, TemplateError
from rlaif.records import Message, content_id
from rlaif.templates.fence import Fenced, all_texts, fence, neutralise

ROLES = ("system", "user", "assistant")

_DECLARATION = re.compile(r"\{#-?\s*variables:([^#]*?)-?#\}\s*")
_SECTION = re.compile(r"---[ \t]+(\w+)[ \t]*")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_SHOWN = "_shown"  # the variable with all texts of a render; templates cannot declare this name


def _print(value: Any) -> str:
    """Neutralise whatever a template prints outside a fence."""
    return value if isinstance(value, Fenced) else neutralise(str(value))


@jinja2.pass_context
def _fence(context: Context, value: Any, tag: str = "text") -> Fenced:
    return fence(str(value), tag, shown=context[_SHOWN])


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # chat messages, not pages; fences do what escaping does there
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,  # sections are stripped in the source, values never
        finalize=_print,
    )
    environment.globals.clear()
    environment.filters["fence"] = _fence
    return environment


_JINJA = _environment()


@dataclass(frozen=True, slots=True)
class _Section:
    role: str
    line: int
    """Number of the line before the section's first one."""

    compiled: Any = field(compare=False)
    fixed: str | None
    """The whole message, if the section has no variables."""


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template. Make one with `load_template`."""

    name: str
    """Such as ``judge/pairwise``."""

    path: Path
    variables: tuple[str, ...]
    """What the file declares, sorted."""

    given: tuple[str, ...]
    """What `render` takes, sorted: the variables of the shipped template of this name. A
    replacement may use only some of them."""

    fingerprint: str
    """Hash of name and source."""

    _sections: tuple[_Section, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the sections in order."""
        return tuple(section.role for section in self._sections)

    def render(self, **values: Any) -> tuple[Message, ...]:
        """Render the messages; a section that renders blank is left out.

        Raises:
            TemplateError: A value is missing or unknown.
            RenderError: A section cannot be rendered with these values.
        """
        self._check(values)
        shown = "\n".join(map(neutralise, all_texts(values)))
        filled = {**values, _SHOWN: shown}
        messages = [
            Message(role=section.role, content=section.fixed or self._fill(section, filled))
            for section in self._sections
        ]
        return tuple(message for message in messages if message["content"].strip())

    def _check(self, values: dict[str, Any]) -> None:
        if len(values) == len(self.given) and all(map(values.__contains__, self.given)):
            return
        missing = sorted(set(self.given) - set(values))
        if missing:
            raise TemplateError(f"{self.path}: missing values: {', '.join(missing)}")
        extra = sorted(set(values) - set(self.given))
        if extra:
            raise TemplateError(
                f"{self.path}: unknown value {extra[0]!r}{nearest(extra[0], self.given)}"
            )

    def _fill(self, section: _Section, values: dict[str, Any]) -> str:
        try:
            return str(section.compiled.render(values))
        except Exception as problem:  # noqa: BLE001 - a template's own expressions can raise anything
            steps = traceback.extract_tb(problem.__traceback__)
            lines = [step.lineno or 1 for step in steps if step.filename == str(self.path)]
            line = section.line + (lines[-1] if lines else 1)
            raise RenderError(f"{self.path}:{line}: cannot be rendered: {problem}") from None


def load_template(path: Path, *, name: str, given: Sequence[str] | None = None) -> Template:
    """Read and check one template file.

    Args:
        path: The file.
        name: Its name, such as ``judge/pairwise``.
        given: The variables it may use, if it replaces a shipped template.

    Raises:
        TemplateError: The file cannot be read, is empty or invalid, or a variable is undeclared,
            unused or not available to this template. The message starts with file:line.
    """
    source = read_text(path, TemplateError).replace("\r\n", "\n").replace("\r", "\n")
    if not source.strip():
        raise TemplateError(f"{path}: the template is empty")
    lines = source.split("\n")
    declared = _declared(path, lines[0])
    used: dict[str, int] = {}
    sections = tuple(
        _compile(path, role, start, "\n".join(body).rstrip(), used)
        for role, start, body in _split(path, lines)
    )
    _check_variables(path, declared, used)
    for variable in declared:
        if given is not None and variable not in given:
            raise TemplateError(
                f"{path}:1: {name} has no variable {variable!r}{nearest(variable, given)}"
            )
    return Template(
        name=name,
        path=path,
        variables=tuple(sorted(declared)),
        given=tuple(sorted(declared if given is None else given)),
        fingerprint=content_id("template", name, source),
        _sections=sections,
    )


def _declared(path: Path, line: str) -> tuple[str, ...]:
    declaration = _DECLARATION.fullmatch(line)
    if declaration is None:
        raise TemplateError(
            f"{path}:1: the first line must declare the variables",
            hint="such as {# variables: conversation, question #}",
        )
    names = [name.strip() for name in declaration[1].split(",") if name.strip()]
    for name in names:
        if not name.isidentifier() or name.startswith("_"):
            raise TemplateError(f"{path}:1: {name!r} is not a valid variable name")
        if names.count(name) > 1:
            raise TemplateError(f"{path}:1: {name!r} is declared twice")
    return tuple(names)


def _split(path: Path, lines: Sequence[str]) -> list[tuple[str, int, list[str]]]:
    """Split the source into (role, number of lines before the body, body)."""
    sections: list[tuple[str, int, list[str]]] = []
    preamble: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        header = _SECTION.fullmatch(line)
        if header is None:
            (sections[-1][2] if sections else preamble).append(line)
            continue
        if header[1] not in ROLES:
            raise TemplateError(
                f"{path}:{number}: unknown role {header[1]!r}{nearest(header[1], ROLES)}"
            )
        sections.append((header[1], number, []))
    loose = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), "\n".join(preamble))
    for number, line in enumerate(loose.split("\n"), start=2):
        if line.strip():
            raise TemplateError(
                f"{path}:{number}: text before the first section",
                hint="start a section with a line such as --- user",
            )
    if not sections:
        raise TemplateError(
            f"{path}: has no section", hint="start one with a line such as --- user"
        )
    return sections


def _compile(path: Path, role: str, start: int, body: str, used: dict[str, int]) -> _Section:
    """Compile one section and record where each undeclared name is used first."""
    leading = len(body) - len(body.lstrip("\n"))
    start, body = start + leading, body[leading:]
    try:
        tree = _JINJA.parse(body)
        code = _JINJA.compile(body, name=str(path), filename=str(path))
    except jinja2.TemplateSyntaxError as problem:
        raise TemplateError(f"{path}:{start + problem.lineno}: {problem.message}") from None
    borrowed = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    for node in tree.find_all(borrowed):
        raise TemplateError(
            f"{path}:{start + node.lineno}: a template cannot include or import another file",
            hint="write the text here, so that the fingerprint of this file covers it",
        )
    unresolved = meta.find_undeclared_variables(tree)
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name in unresolved:
            used.setdefault(name.name, start + name.lineno)
    compiled = _JINJA.template_class.from_code(_JINJA, code, {})
    plain = all(isinstance(part, nodes.Output) and _is_plain(part) for part in tree.body)
    return _Section(role, start, compiled, compiled.render() if plain else None)


def _is_plain(part: nodes.Output) -> bool:
    return all(isinstance(node, nodes.TemplateData) for node in part.nodes)


def _check_variables(path: Path, declared: Sequence[str], used: dict[str, int]) -> None:
    for name, line in sorted(used.items(), key=lambda item: item[1]):
        if name not in declared:
            raise TemplateError(
                f"{path}:{line}: {name!r} is used but not declared{nearest(name, declared)}",
                hint="declare it on the first line, if this template receives it",
            )
    for name in declared:
        if name not in used:
            raise TemplateError(f"{path}:1: {name!r} is declared but not used")
