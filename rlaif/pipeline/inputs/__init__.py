"""Prompts from anywhere: files of five kinds, folders and patterns, addresses, data sets.

`read_prompts` streams them; what is no prompt, a duplicate or contaminated is a counted failure.
"""

from rlaif.pipeline.inputs.read import belongs, check_source, count_records, read_prompts
from rlaif.pipeline.inputs.source import PromptSource

__all__ = ["PromptSource", "belongs", "check_source", "count_records", "read_prompts"]
