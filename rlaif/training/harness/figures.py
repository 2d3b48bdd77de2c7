"""What the figures of a training mean: one sentence, and a table with a meaning for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HELD_OUT = "held_out/"
"""In front of what was measured on held-out rows while training."""

_MEANINGS = {
    "loss": "the objective that is minimised",
    "entropy": "nats of uncertainty per token; near 0, the policy always says the same",
    "mean_token_accuracy": "share of response tokens that are the most probable one",
    "rewards/margins": "implicit reward of chosen minus rejected; above 0: prefers chosen",
    "rewards/accuracies": "share of pairs whose chosen response has the higher implicit reward",
    "rewards/agreement": "expected share of labels the policy sides with; a label of .7 counts .7",
    "rewards/chosen": "beta times the log-ratio of policy and reference on chosen responses",
    "rewards/rejected": "the same on rejected responses",
    "logps/chosen": "log-probability of chosen responses, in nats; falling far: displacement",
    "logps/rejected": "log-probability of rejected responses, in nats",
    "logps/chosen_per_token": "the same per token",
    "labels/chosen_prob": "mean label: the most that rewards/agreement can reach",
    "accuracy": "share of pairs whose chosen response scores higher; ties in the label left out",
    "agreement": "expected share of labels the scores side with; a label of .7 counts .7",
    "margin": "score of chosen minus score of rejected",
    "score/chosen": "mean score of chosen responses; only differences have a meaning",
    "score/rejected": "mean score of rejected responses",
    "calibration_error": "gap between σ(score difference) and the labels; 0 is calibrated",
    "length_correlation": "of score and length differences; far from 0: length decides",
    "longer_wins": "share of pairs whose longer response scores higher",
    "score/mean": "what the scorer gives, before KL and shaping",
    "score/deviation": "spread of scores within a rollout; 0: nothing to learn from",
    "score/unscored": "share of responses the scorer gave no score",
    "objective/kl": "nats per response that the policy is away from the reference",
    "objective/beta": "reward lost per nat of KL",
    "objective/entropy": "nats of uncertainty per token; near 0, the policy always says the same",
    "objective/sampling_gap": "difference of sampling and training log-probabilities; near 0",
    "objective/importance": "mean weight that corrects for the sampler's rounding; near 1",
    "response/tokens": "mean length of responses",
    "response/ended": "share of responses that end by themselves within the limit",
    "policy/loss": "the clipped objective; its size has no meaning",
    "policy/approx_kl": "nats per token from the policy that drew the rollout",
    "policy/ratio": "mean probability ratio to the policy that drew the rollout; near 1",
    "policy/ratio_distance": "mean distance of that ratio from 1; below 0.1",
    "policy/clip_share": "share of tokens whose gradient was cut off; below 0.3",
    "policy/entropy": "nats of uncertainty per token over all training passes",
    "policy/grad_norm": "length of the policy's gradient before clipping",
    "policy/skipped": "share of minibatches without a step",
    "value/loss": "squared error of the value model",
    "value/clip_share": "share of values whose change was cut off",
    "value/grad_norm": "length of the value model's gradient before clipping",
    "value/explained_variance": "share of the returns' variance that is predicted; at most 1",
    "reward": "mean score of a group's responses, by all scorers",
    "reward_std": "spread of scores within a group; 0: nothing to learn from",
    "kl": "nats per token that the policy is away from the reference",
    "completions/mean_length": "mean tokens of responses",
    "completions/clipped_ratio": "share of responses cut off at the limit",
    "samples/score": "mean score of the sampled replies, by the scorer of samples.reward",
    "grad_norm": "length of the gradient before clipping",
    "learning_rate": "the step size of the schedule",
}

_MAIN = {
    "sft": ("loss", "mean_token_accuracy", "samples/score"),
    "dpo": (
        "loss",
        "rewards/agreement",
        "labels/chosen_prob",
        "rewards/accuracies",
        "rewards/margins",
        "logps/chosen_per_token",
        "samples/score",
    ),
    "reward": ("accuracy", "calibration_error", "length_correlation", "longer_wins", "loss"),
    "ppo": (
        "score/mean",
        "objective/kl",
        "objective/beta",
        "response/tokens",
        "response/ended",
        "score/unscored",
        "value/explained_variance",
    ),
}
_GROUPS = ("reward", "kl", "completions/mean_length", "completions/clipped_ratio")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table at the end of a training."""

    name: str
    start: str
    """In the first logged step; empty where it was not measured there."""

    end: str
    meaning: str


def meaning_of(name: str) -> str:
    """Return what a metric means; empty for one that a library logs for itself."""
    bare = name.removeprefix(HELD_OUT).removeprefix("held_out.")
    if bare.startswith("gold."):
        bare = bare.rsplit(".", 1)[-1]
    return _MEANINGS.get(bare, "")


def main_figures(kind: str, first: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[Figure]:
    """Return the figures worth reading at the end of a training, most important first.

    Args:
        kind: Of the trainer, see `Recipe.kind`.
        first: The first row of ``metrics.jsonl``.
        metrics: `TrainResult.metrics`. What was measured on held-out rows stands in place of the
            last training step.
    """
    held_out = metrics.get("held_out") or {}
    rows = []
    for name in _MAIN.get(kind, _GROUPS):
        place = "held_out." if name in held_out else ""
        value = held_out.get(name) if place else metrics.get(name)
        if value is not None:
            start = "" if place else _shown(first.get(name))
            rows.append(Figure(place + name, start, _shown(value), meaning_of(name)))
    return rows


def summarise(kind: str, first: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return what a training achieved as one plain sentence, with what it does not show."""
    held_out = metrics.get("held_out") or {}
    values = held_out or metrics
    on = "held-out pairs" if held_out else "training pairs, which says little about new ones"
    match kind:
        case "sft" if "loss" in values:
            where = "held-out rows" if held_out else "rows it was trained on"
            return f"The loss is {values['loss']:.3f} nats per response token on {where}."
        case "dpo" if "rewards/agreement" in values:
            return (
                f"The policy sides with {_percent(values['rewards/agreement'])} of the labels "
                f"(at best {_percent(values.get('labels/chosen_prob', 1.0))}; 50% is chance), "
                f"measured on {on}."
            )
        case "reward" if _value(values.get("accuracy")) is not None:
            accuracy = values["accuracy"]
            interval = ""
            if isinstance(accuracy, Mapping):
                interval = f" [{_percent(accuracy['low'])}, {_percent(accuracy['high'])}]"
            return (
                f"The reward model agrees with {_percent(_value(accuracy))}{interval} of the "
                f"labels, measured on {on}."
            )
        case "ppo" if "score/mean" in metrics:
            return (
                f"The mean score went {_from(first, 'score/mean')}{metrics['score/mean']:.3g} at "
                f"a KL of {metrics['objective/kl']:.3g} nats per response. It shows what this "
                "scorer rewards; measure on held-out prompts with another judge."
            )
        case "rloo" | "grpo" if "reward" in metrics:
            return (
                f"The mean reward went {_from(first, 'reward')}{metrics['reward']:.3g}. It shows "
                "what this scorer rewards; measure on held-out prompts with another judge."
            )
        case _:
            return ""


def _from(first: Mapping[str, Any], name: str) -> str:
    return f"from {first[name]:.3g} to " if isinstance(first.get(name), int | float) else "to "


def _value(figure: Any) -> Any:
    return figure["value"] if isinstance(figure, Mapping) else figure


def _percent(share: Any) -> str:
    return f"{share:.0%}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.4g}" if isinstance(value, int | float) else ""
