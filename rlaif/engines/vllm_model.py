"""What a user calls a model, what vLLM loads for it, and what requests to a server call it."""

from difflib import get_close_matches
from pathlib import Path

from rlaif.config import nearest
from rlaif.embedded import SHIPPED, model_fingerprint, resolve_model
from rlaif.errors import EngineMissing, InputError


def find_model(model: str) -> str:
    """Return what vLLM loads; a slip of the pen is said at once, not after a minute.

    Raises:
        EngineMissing: The name is close to a shipped one and no other kind of name.
        InputError: There is no such folder or file.
    """
    place = resolve_model(model)
    if place != model or Path(place).is_dir():
        return place
    if model.startswith((".", "/", "~")) or model.endswith(".gguf"):
        raise InputError(f"{model}: there is no such folder or file")
    if "/" not in model and get_close_matches(model, SHIPPED):
        raise EngineMissing(f"there is no model {model!r}{nearest(model, sorted(SHIPPED))}")
    return place


def served_name(model: str, place: str) -> str:
    """Return what requests call a model.

    A folder is named with its fingerprint: two checkpoints at one address are two models, and the
    ledger must not answer for one with the other's replies.
    """
    if model in SHIPPED or not Path(place).is_dir():
        return model
    return f"{Path(model).name or Path(place).name}@{model_fingerprint(place)[:12]}"
