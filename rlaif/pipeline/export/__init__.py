"""Exports: rows of a run as data sets that trainers load, each in its own words."""

from rlaif.pipeline.export.export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
