"""Generation: the student samples responses; a critic critiques and revises them."""

from rlaif.generation.contrast import ContrastSampler, contrasted_principle
from rlaif.generation.revise import NO_FAULT, Revised, Reviser, parse_found
from rlaif.generation.sample import REFUSED, sample_responses

__all__ = [
    "NO_FAULT",
    "REFUSED",
    "ContrastSampler",
    "Revised",
    "Reviser",
    "contrasted_principle",
    "parse_found",
    "sample_responses",
]
