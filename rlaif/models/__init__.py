"""Models: from a name to a folder of files, conversion of GGUF files, fingerprints, safe loading.

Importing this is fast: torch and transformers are loaded only to convert or load a model.
"""

from rlaif.models.convert import convert_gguf, quiet_transformers
from rlaif.models.fingerprint import cache_folder, model_fingerprint
from rlaif.models.loading import load_pretrained, load_weights
from rlaif.models.names import SHIPPED, Shipped, resolve_model
from rlaif.models.turns import turn_ends

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
    "turn_ends",
]
