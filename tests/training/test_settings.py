from pathlib import Path

from rlaif.config.train import DpoConfig
from rlaif.training.harness.rows import plan_of
from tests.training.tiny import make_tiny


def test_models_count_in_a_plan_by_what_they_are_and_not_by_where_they_lie(tiny, tmp_path):
    same, other = make_tiny(tmp_path / "same"), make_tiny(tmp_path / "other", seed=1)

    def plan(model: Path, reference: Path) -> dict[str, object]:
        asked = {"model": str(model), "reference_model": str(reference), "out": "x"}
        return plan_of(DpoConfig.model_validate(asked), 64)

    assert plan(tiny, same) == plan(same, tiny)
    assert plan(tiny, same) != plan(other, same)
    assert plan(tiny, same) != plan(tiny, other)
