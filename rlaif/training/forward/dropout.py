"""Dropout, which makes two passes over the same tokens differ: off wherever they are compared."""

from torch import nn


def disable_dropout(model: nn.Module, *, adapters: bool = True) -> None:
    """Set every dropout probability to 0, also those that attention reads from an attribute.

    Args:
        model: Left in eval mode.
        adapters: Whether that of low-rank adapters (``lora.dropout``) is switched off, too.
    """
    for place, module in model.named_modules():
        if not adapters and "lora_dropout" in place:
            continue
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "attn_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    model.eval()
