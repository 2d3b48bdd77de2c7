"""Constitutions: the principles a model should live by, read, checked, then inert."""

from rlaif.constitution.choose import HowMany, choose_principles
from rlaif.constitution.load import constitution_from_mapping, load_constitution
from rlaif.constitution.models import Constitution, Example, Principle, Rule
from rlaif.constitution.rules import check_rule, explain_rule

__all__ = [
    "Constitution",
    "Example",
    "HowMany",
    "Principle",
    "Rule",
    "check_rule",
    "choose_principles",
    "constitution_from_mapping",
    "explain_rule",
    "load_constitution",
]
