"""Settings: from YAML to frozen, validated values."""

from rlaif.config.load import FilePath, NameOrPath, Settings, load_config, nearest, parse_overrides
from rlaif.config.run import RunConfig
from rlaif.config.yaml import Document, load_yaml, read_text

__all__ = [
    "Document",
    "FilePath",
    "NameOrPath",
    "RunConfig",
    "Settings",
    "load_config",
    "load_yaml",
    "nearest",
    "parse_overrides",
    "read_text",
]
