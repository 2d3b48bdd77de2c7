"""Models by name: the one that is embedded, folders, GGUF files, and what tells two models apart.

Light to import: torch and transformers are loaded only when something must be converted.
"""

from rlaif.embedded.convert import convert_gguf, quiet_transformers
from rlaif.embedded.fingerprint import model_fingerprint
from rlaif.embedded.loading import load_pretrained, load_weights
from rlaif.embedded.names import SHIPPED, Shipped, resolve_model
from rlaif.embedded.places import cache_folder

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
