"""Templates: the text sent to models, strict and sandboxed, with untrusted text in fences."""

from rlaif.templates.fence import fence, neutralise
from rlaif.templates.folders import TemplateSet, shipped_folder
from rlaif.templates.template import Template, load_template

__all__ = [
    "Template",
    "TemplateSet",
    "fence",
    "load_template",
    "neutralise",
    "shipped_folder",
]
