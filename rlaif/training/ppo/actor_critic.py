"""Policy, value model and reference: who computes what, with how many weights in memory.

`SeparateCritic` holds three trunks: the policy, a separate value model (initialised from the
reward model or from the policy), and a frozen copy of the policy as reference. `SharedBase` holds
one: a frozen base with two sets of low-rank adapters, ``default`` (the policy) and ``value``; the
reference is the base with adapters off. Dropout is off everywhere: with it the same tokens would
have other log-probabilities in every forward pass, and ratios would not start at 1.

Shapes: N response tokens, flat (see `rlaif.training.forward.sequences`).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rlaif.errors import InputError
from rlaif.training.forward.dropout import disable_dropout
from rlaif.training.forward.logprobs import (
    can_share,
    causal_model,
    compute_logprobs,
    compute_states,
    find_head,
)
from rlaif.training.forward.sequences import Sequences

Parameters = dict[str, nn.Parameter]


class ActorCritic(Protocol):
    """What the training loop needs from the models."""

    policy: Any
    """The transformers or PEFT model that is trained."""

    def logprobs(self, batch: Sequences, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the policy's log-probabilities (and entropies) of the actions, in nats."""
        ...

    def ref_logprobs(self, batch: Sequences) -> Tensor | None:
        """Return the reference's log-probabilities of the actions; None when none is kept."""
        ...

    def values(self, batch: Sequences) -> Tensor:
        """Return the value of the state before each action, fp32."""
        ...

    def policy_parameters(self) -> Parameters:
        """Return what the policy's optimiser trains, by name."""
        ...

    def critic_parameters(self) -> Parameters:
        """Return what the critic's optimiser trains, by name."""
        ...

    def sampled(self) -> Any:
        """A context in which the policy generates: yields its transformers model."""
        ...

    def save_critic(self, folder: Path) -> None:
        """Write the critic. The last thing done with these models before the policy is saved."""
        ...


class SeparateCritic:
    """Policy, critic and reference as three models.

    Args:
        policy: A causal language model, all of it trained.
        critic: A sequence classifier with one label and a head named ``score``.
        temperature: The sampling temperature, > 0.
        reference: Keep a frozen copy of the policy as it is now.
        checkpointing: Trade compute for memory: recompute activations in the backward pass.
        mixed: Compute in bf16 autocast; weights, log-softmax, value head and losses stay fp32.
    """

    def __init__(
        self,
        policy: Any,
        critic: Any,
        *,
        temperature: float = 1.0,
        reference: bool = True,
        checkpointing: bool = False,
        mixed: bool = False,
    ) -> None:
        for model in (policy, critic):
            disable_dropout(model)
        self.policy = policy
        self.critic = critic
        self._mixed = mixed
        self._score = value_head(critic)
        self._head = find_head(policy)
        self._reference = _frozen_copy(policy) if reference else None
        self._ref_head = find_head(self._reference) if self._reference is not None else None
        share = not checkpointing and can_share(policy.base_model)
        self._compute = partial(compute_logprobs, temperature=temperature, share=share)
        self._share_values = not checkpointing and can_share(critic.base_model)
        if checkpointing:
            enable_checkpointing(policy)
            enable_checkpointing(critic)

    def logprobs(self, batch: Sequences, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """See `ActorCritic`."""
        with _precision(self.policy, self._mixed):
            return self._compute(self.policy, batch, self._head, entropy=entropy)

    def ref_logprobs(self, batch: Sequences) -> Tensor | None:
        """See `ActorCritic`."""
        if self._reference is None:
            return None
        with _precision(self._reference, self._mixed):
            return self._compute(self._reference, batch, self._ref_head)[0]

    def values(self, batch: Sequences) -> Tensor:
        """See `ActorCritic`."""
        with _precision(self.critic, self._mixed):
            return _values(self.critic.base_model, self._score, batch, share=self._share_values)

    def policy_parameters(self) -> Parameters:
        """See `ActorCritic`."""
        return _trainable(self.policy)

    def critic_parameters(self) -> Parameters:
        """See `ActorCritic`."""
        return _trainable(self.critic)

    @contextmanager
    def sampled(self) -> Iterator[Any]:
        """See `ActorCritic`."""
        with _evaluating(self.policy), _precision(self.policy, self._mixed):
            yield self.policy

    def save_critic(self, folder: Path) -> None:
        """See `ActorCritic`. Loads in transformers as a sequence classifier with one label."""
        self.critic.save_pretrained(folder)


class SharedBase:
    """One frozen base, adapters for policy and value, and the bare base as reference.

    The adapter of the last forward pass stays active, because a backward pass with activation
    checkpointing runs the forward again. So never two forwards before the first one's backward.

    Args:
        policy: A PEFT model whose adapter ``default`` is the policy.
        temperature: The sampling temperature, > 0.
        reference: Whether KL is measured at all.
        checkpointing: Recompute activations in the backward pass.
        mixed: Compute in bf16 autocast.
    """

    def __init__(
        self,
        policy: Any,
        *,
        temperature: float = 1.0,
        reference: bool = True,
        checkpointing: bool = False,
        mixed: bool = False,
    ) -> None:
        policy.add_adapter("value", copy.deepcopy(policy.peft_config["default"]))
        policy.set_adapter("default")
        disable_dropout(policy)
        self.policy = policy
        self._mixed = mixed
        self._head = find_head(policy)
        self._reference = reference
        whole = causal_model(policy)
        self._share = not checkpointing and can_share(whole.base_model)
        self._compute = partial(compute_logprobs, temperature=temperature, share=self._share)
        self._score = nn.Linear(whole.config.get_text_config().hidden_size, 1).to(whole.device)
        # Zero, so that the first advantages are the rewards themselves and not a random head's.
        nn.init.zeros_(self._score.weight)
        nn.init.zeros_(self._score.bias)
        if checkpointing:
            enable_checkpointing(whole)

    def logprobs(self, batch: Sequences, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """See `ActorCritic`."""
        self.policy.set_adapter("default")
        with _precision(self.policy, self._mixed):
            return self._compute(self.policy, batch, self._head, entropy=entropy)

    def ref_logprobs(self, batch: Sequences) -> Tensor | None:
        """See `ActorCritic`."""
        if not self._reference:
            return None
        with self.policy.disable_adapter(), _precision(self.policy, self._mixed):
            return self._compute(self.policy, batch, self._head)[0]

    def values(self, batch: Sequences) -> Tensor:
        """See `ActorCritic`."""
        self.policy.set_adapter("value")
        with _precision(self.policy, self._mixed):
            trunk = causal_model(self.policy).base_model
            return _values(trunk, self._score, batch, share=self._share)

    def policy_parameters(self) -> Parameters:
        """See `ActorCritic`."""
        return _adapter(self.policy, "default")

    def critic_parameters(self) -> Parameters:
        """See `ActorCritic`."""
        head = {f"score.{name}": tensor for name, tensor in self._score.named_parameters()}
        return _adapter(self.policy, "value") | head

    @contextmanager
    def sampled(self) -> Iterator[Any]:
        """See `ActorCritic`."""
        self.policy.set_adapter("default")
        with _evaluating(self.policy), _precision(self.policy, self._mixed):
            yield causal_model(self.policy)

    def save_critic(self, folder: Path) -> None:
        """See `ActorCritic`. Writes the adapter ``value/`` and its head, and drops them."""
        from safetensors.torch import save_file

        self.policy.set_adapter("default")
        self.policy.save_pretrained(folder, selected_adapters=["value"])
        head = {name: p.detach().contiguous() for name, p in self._score.named_parameters()}
        save_file(head, folder / "score.safetensors")
        self.policy.delete_adapter("value")


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in backward passes; works in train mode only (dropout is off)."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # its name from 5.23 on
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    model.train()


def value_head(critic: Any) -> nn.Module:
    """Return the layer that reads a value off a hidden state.

    Raises:
        InputError: The architecture keeps its classifier elsewhere.
    """
    head = getattr(critic, "score", None)
    if not isinstance(head, nn.Module):
        raise InputError(
            f"{type(critic).__name__} has no head named 'score', so it cannot be a value model",
            hint="start the critic from the policy: critic: policy",
        )
    return head


def _values(trunk: nn.Module, head: nn.Module, batch: Sequences, *, share: bool) -> Tensor:
    states_ND = compute_states(trunk, batch, share=share)
    weight = next(head.parameters())
    with torch.autocast(states_ND.device.type, enabled=False):  # bf16 keeps 8 bits of a return
        values: Tensor = head(states_ND.to(weight.dtype)).squeeze(1)
    return values.float()


def _frozen_copy(model: Any) -> Any:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _adapter(model: nn.Module, name: str) -> Parameters:
    parameters = {n: p for n, p in model.named_parameters() if f".{name}." in f"{n}."}
    if not parameters:
        raise InputError("lora: these settings leave nothing to train")
    return parameters


def _trainable(model: nn.Module) -> Parameters:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _precision(model: nn.Module, mixed: bool) -> torch.autocast:
    device = next(model.parameters()).device.type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=mixed)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Leave train mode, in which activation checkpointing would forbid the key-value cache."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
