"""Constitutions: the principles a model should follow, from YAML files to frozen values."""

from rlaif.constitution.choose import HowMany, choose_principles, count_asked
from rlaif.constitution.diff import Change, ConstitutionDiff, diff_constitutions
from rlaif.constitution.file_format import Finding
from rlaif.constitution.lint import lint_constitution
from rlaif.constitution.load import constitution_from_mapping, load_constitution
from rlaif.constitution.models import Constitution, Example, Principle, Rule
from rlaif.constitution.rules import check_rule, explain_rule
from rlaif.constitution.schema import constitution_schema

__all__ = [
    "Change",
    "Constitution",
    "ConstitutionDiff",
    "Example",
    "Finding",
    "HowMany",
    "Principle",
    "Rule",
    "check_rule",
    "choose_principles",
    "constitution_from_mapping",
    "constitution_schema",
    "count_asked",
    "diff_constitutions",
    "explain_rule",
    "lint_constitution",
    "load_constitution",
]
