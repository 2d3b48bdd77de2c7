"""Scorers by name: what a training file or a reward server's file says under ``reward``."""

from pydantic import Field, model_validator

from rlaif.config.judged import JudgedConfig
from rlaif.config.load import ModelName, NameOrFile, Settings


class RewardPartConfig(Settings):
    """One scorer: exactly one of ``rules``, ``reward_model`` and ``judged``."""

    rules: NameOrFile | None = Field(
        None, description="A constitution; the share of its rules a response satisfies."
    )
    reward_model: ModelName | None = Field(
        None, description="A sequence classifier with one label; any tokenizer."
    )
    judged: JudgedConfig | None = Field(None, description="Judges that score each response.")
    chat_template: NameOrFile | None = Field(
        None, description="The reward model's, where its tokenizer has none."
    )
    weight: float = Field(1.0, allow_inf_nan=False, description="Factor on its scores.")

    @model_validator(mode="after")
    def _one_source(self) -> "RewardPartConfig":
        if [self.rules, self.reward_model, self.judged].count(None) != 2:
            raise ValueError("give exactly one of rules, reward_model and judged")
        if self.chat_template is not None and self.reward_model is None:
            raise ValueError("chat_template belongs to reward_model")
        return self


class LengthPenaltyConfig(Settings):
    """What a long response loses."""

    per_word: float = Field(gt=0, allow_inf_nan=False)
    free_words: int = Field(0, ge=0, description="Words that cost nothing.")
