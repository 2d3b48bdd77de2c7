"""Train a reward model on preference pairs with soft labels, and say what it is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl.trainer.reward_config import RewardConfig as TrlArguments

from rlaif.config.train import RewardConfig
from rlaif.training.data.read import GOLD_SPLITS, Source, read_preferences
from rlaif.training.data.tokens import Tokenised, tokenise_pairs
from rlaif.training.forward.dropout import disable_dropout
from rlaif.training.harness.folder import TrainingFolder, TrainResult
from rlaif.training.harness.inputs import Inputs, Said, read_settings
from rlaif.training.harness.progress import Style
from rlaif.training.harness.recipe import Recipe, train
from rlaif.training.harness.rows import name_source, places, read_rows, with_notes
from rlaif.training.harness.trl import TrlLoop, trainer_arguments
from rlaif.training.models import load_scorer, model_arguments
from rlaif.training.reward.measure import measure_scores
from rlaif.training.reward.trainer import ScorerTrainer, choose_layout


@dataclass(frozen=True, slots=True)
class RewardRows:
    """Token rows to train on, and those that are measured at the end, by name."""

    train: Tokenised
    measured: Mapping[str, Tokenised]


def train_reward(
    config: Said = None,
    *,
    dataset: Source | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Train a reward model on preference pairs; repeat the call to resume.

    The result loads in plain transformers as sequence classification with one label, its score
    read at the last token. ``metrics["held_out"]`` holds accuracy, calibration and length
    correlation, each with an interval; ``metrics["gold"]`` the same per gold set.

    Arguments and errors are those of `rlaif.training.sft.train_sft`, with pairs
    (`load_preferences`) as ``dataset``, and as ``model`` a policy to start from or a reward model
    to continue with; settings are those of `rlaif.config.train.RewardConfig`.
    """
    settings = read_settings(RewardConfig, config, {**overrides, **places(dataset, model, out)})
    return train(REWARD, settings, name_source(settings, dataset), force=force, style=style)


def gold_names(sources: Sequence[str]) -> dict[str, str]:
    """Name each set by the end of its path, with as many folders as tell it from the others."""
    paths = [Path(source).parent / Path(source).stem for source in sources]
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, sources, strict=True))
    return dict(zip(sources, sources, strict=True))  # they differ by the ending alone


def _read(settings: RewardConfig, source: Source) -> Inputs[RewardRows]:
    loaded = read_preferences(source, splits=(settings.split,), margins=settings.margin_scale > 0)
    inputs = read_rows(settings, loaded, tokenise_pairs, separate_pad=True)
    rows = inputs.data
    gold = {
        name: rows.tokenise(read_preferences(path, splits=GOLD_SPLITS).dataset)
        for name, path in gold_names(settings.gold).items()
    }
    measured = {} if rows.held_out is None else {"held_out": rows.held_out}
    plan = {
        **inputs.plan,
        "data": [fingerprint for fingerprint in inputs.plan["data"] if fingerprint is not None],
        "gold": {name: part.fingerprint for name, part in gold.items()},
    }
    measured |= {f"gold.{name}": part for name, part in gold.items()}
    return Inputs(
        RewardRows(rows.train, measured),
        inputs.tokenizer,
        plan,
        with_notes(inputs.facts, {f"gold {name}": part for name, part in gold.items()}),
        inputs.notes,
    )


def _load(settings: RewardConfig) -> Any:
    return load_scorer(**model_arguments(settings))[0]


def _build(
    settings: RewardConfig, folder: TrainingFolder, scorer: Any, inputs: Inputs[RewardRows]
) -> TrlLoop:
    held_out = inputs.data.measured.get("held_out")
    disable_dropout(scorer, adapters=False)
    trainer = ScorerTrainer(
        layout=choose_layout(scorer, length=inputs.plan["max_length"]),
        soft=settings.labels == "soft",
        margin_scale=settings.margin_scale,
        centring=settings.centring,
        model=scorer,
        args=TrlArguments(**trainer_arguments(settings, folder, scorer), disable_dropout=False),
        train_dataset=inputs.data.train.dataset,
        eval_dataset=held_out.dataset if held_out and settings.measure_every else None,
        processing_class=inputs.tokenizer,
    )
    return TrlLoop(trainer, folder, stop_after=settings.stop_after)


def _measure(loop: TrlLoop, settings: RewardConfig, inputs: Inputs[RewardRows]) -> dict[str, Any]:
    measures = {}
    for name, part in inputs.data.measured.items():
        pairs = loop.trainer.score_rows(list(part.dataset), settings.batch_size)
        measures[name] = measure_scores(pairs, seed=settings.seed)
    return measures


REWARD = Recipe(
    "reward",
    _read,
    _load,
    _build,
    curves=("loss", "accuracy", "agreement", "held_out/loss", "held_out/accuracy", "grad_norm"),
    after=_measure,
    pipeline="text-classification",
)
