from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rlaif.engines.local.engine import TransformersEngine, build_transformers_engine
from tests.engines.tiny import make_tiny

KINDS = ("llama", "sliding", "hybrid", "recurrent", "learned-positions")

Opener = Callable[..., AbstractAsyncContextManager[TransformersEngine]]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny models by kind, made once."""
    made: dict[str, Path] = {}

    def folder(kind: str = "llama") -> Path:
        if kind not in made:
            made[kind] = make_tiny(tmp_path_factory.mktemp("models") / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_tiny(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Opener:
    """Open a tiny model as an engine; options as keywords."""
    monkeypatch.setenv("RLAIF_CACHE", str(tmp_path / "cache"))

    @asynccontextmanager
    async def opened(kind: str = "llama", **options: Any) -> AsyncIterator[TransformersEngine]:
        options.setdefault("threads", 1)
        options.setdefault("max_wait_ms", 1)
        engine = build_transformers_engine(model=str(tiny_models(kind)), options=options)
        try:
            yield engine
        finally:
            await engine.aclose()

    return opened
