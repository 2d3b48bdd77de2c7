"""Constitutions: the principles a model should live by, read, checked, then inert."""

from rlaif.constitution.choose import HowMany, choose_principles
from rlaif.constitution.models import Constitution, Example, Principle, Rule

__all__ = ["Constitution", "Example", "HowMany", "Principle", "Rule", "choose_principles"]
