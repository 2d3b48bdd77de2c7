"""From settings to an open engine with its roles, and its sampling."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from rlaif.config.run import EngineConfig, JudgeConfig, SamplingConfig
from rlaif.engines import Capability, Engine, Reply, Request, Sampling, open_engine
from rlaif.errors import ConfigError
from rlaif.records import content_id

SAME_AS_STUDENT = "same-as-student"
_ENGINE_KEYS = {"engine", "model", "revision", "base_url", "api_key_env", "options"}
_JUDGE = "judge:"


def sampling_of(config: SamplingConfig) -> Sampling:
    """Sampling settings as engines want them."""
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        stop=config.stop,
        extra=tuple(sorted(config.extra.items())),
    )


def open_configured(config: EngineConfig | JudgeConfig) -> Engine:
    """Open the engine a config names."""
    if config.engine is None:
        raise ConfigError(f"{SAME_AS_STUDENT} does not name an engine")
    return open_engine(
        config.engine,
        model=config.model,
        revision=config.revision,
        base_url=config.base_url,
        api_key_env=config.api_key_env,
        options=config.options,
    )


def engine_key(config: EngineConfig | JudgeConfig) -> str:
    """Return what is equal for configs that name the same model behind the same engine."""
    return content_id("engine", config.model_dump(mode="json", include=_ENGINE_KEYS))


def judge_role(name: str) -> str:
    """Return the role of the judge of this name."""
    return f"{_JUDGE}{name}"


class SessionEngine:
    """An open engine and the roles it plays; its session decides where its calls go.

    Attributes:
        engine: The engine itself.
        identity: What its replies are keyed by.
        roles: In the order in which they were given, such as ``student`` or ``judge:main``.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.identity: Mapping[str, Any] = dict(engine.identity)
        self.roles: list[str] = []
        self._through: Engine | None = None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The engine's own."""
        return self.engine.capabilities

    @property
    def label(self) -> str:
        """Its name in the account: its first role; engines of judges alone name all of them."""
        first = self.roles[0]
        return "+".join(self.roles) if first.startswith(_JUDGE) else first

    def send_through(self, through: Engine) -> None:
        """Let calls from now on go through this."""
        self._through = through
        self.identity = through.identity  # the same object: requests remember their keys by it

    def ask(self, request: Request) -> Coroutine[Any, Any, Sequence[Reply]]:
        """Ask through what the session connected it to."""
        if self._through is None:
            raise RuntimeError(f"{self.label} was asked before its session was connected")
        return self._through.ask(request)

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()
