"""Settings: YAML to frozen, checked values. Nothing below the command line keeps one around."""

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
