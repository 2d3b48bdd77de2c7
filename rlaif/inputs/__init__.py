"""Prompts from anywhere: files of five kinds, folders and patterns, addresses, data sets.

`read_prompts` streams them; invalid, duplicate and contaminated prompts are counted failures.
"""

from rlaif.config.prompts import PromptSource
from rlaif.inputs.read import belongs, check_source, count_records, read_prompts

__all__ = ["PromptSource", "belongs", "check_source", "count_records", "read_prompts"]
