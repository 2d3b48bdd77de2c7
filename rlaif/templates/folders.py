"""Which template file is used: the project's own where it has one, else the shipped one."""

from dataclasses import dataclass, field
from pathlib import Path

from rlaif.config import nearest
from rlaif.errors import TemplateError
from rlaif.templates.template import Template, load_template


def shipped_folder() -> Path:
    """Return the folder of shipped templates: inside the wheel, else the repository's.

    Raises:
        TemplateError: Neither folder exists: the installation is damaged.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_shipped" / "prompts", package.parent / "prompts"):
        if folder.is_dir():
            return folder
    raise TemplateError("the shipped templates are missing", hint="reinstall constitutional-rlaif")


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """All templates by name, each loaded once. Open with `TemplateSet.open`."""

    shipped: Path
    project: Path | None
    _loaded: dict[str, Template] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, project: Path | None = None) -> "TemplateSet":
        """Find the templates.

        Args:
            project: A folder whose ``*.j2`` files replace the shipped ones of the same relative
                path, file by file.

        Raises:
            TemplateError: The folder is missing, or has a file that replaces no shipped template.
        """
        templates = cls(shipped_folder(), project)
        if project is not None:
            if not project.is_dir():
                raise TemplateError(f"{project}: template folder not found")
            shipped = templates.names()
            for name in _names(project):
                if name not in shipped:
                    raise TemplateError(
                        f"{project / name}.j2: there is no shipped template of this name to replace"
                        f"{nearest(name, shipped)}"
                    )
        return templates

    def names(self) -> tuple[str, ...]:
        """Return all template names, such as ``judge/pairwise``, sorted."""
        return _names(self.shipped)

    def get(self, name: str) -> Template:
        """Return one template, read and checked once.

        Raises:
            TemplateError: There is no template of that name, or it is invalid.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def check_all(self) -> tuple[Template, ...]:
        """Load every template.

        Raises:
            TemplateError: Lists the problem of each invalid one, one per line.
        """
        templates: list[Template] = []
        problems: list[TemplateError] = []
        for name in self.names():
            try:
                templates.append(self.get(name))
            except TemplateError as problem:
                problems.append(problem)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise TemplateError("\n".join(str(problem) for problem in problems))
        return tuple(templates)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of every template, by name.

        Raises:
            TemplateError: As for `check_all`.
        """
        return {template.name: template.fingerprint for template in self.check_all()}

    def _load(self, name: str) -> Template:
        if name not in self.names():
            raise TemplateError(f"unknown template {name!r}{nearest(name, self.names())}")
        shipped = load_template(self.shipped / f"{name}.j2", name=name)
        own = self.project / f"{name}.j2" if self.project is not None else None
        if own is None or not own.exists():
            return shipped
        return load_template(own, name=name, given=shipped.variables)


def _names(folder: Path) -> tuple[str, ...]:
    files = folder.rglob("*.j2")
    return tuple(sorted(str(file.relative_to(folder).with_suffix("").as_posix()) for file in files))
