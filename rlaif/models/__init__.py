"""Models by name: the one that is embedded, folders, GGUF files, and what tells two models apart.

Light to import: torch and transformers are loaded only when something must be converted.
"""

from rlaif.models.convert import convert_gguf, quiet_transformers
from rlaif.models.fingerprint import cache_folder, model_fingerprint
from rlaif.models.loading import load_pretrained, load_weights
from rlaif.models.names import SHIPPED, Shipped, resolve_model

__all__ = [
    "SHIPPED",
    "Shipped",
    "cache_folder",
    "convert_gguf",
    "load_pretrained",
    "load_weights",
    "model_fingerprint",
    "quiet_transformers",
    "resolve_model",
]
