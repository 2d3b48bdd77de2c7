"""One judge, two engines: a real vLLM server and the embedded engine read the same labels."""

from pathlib import Path

import pytest

from rlaif.constitution import load_constitution
from rlaif.engines import Capability, Engine, Generate, Sampling, open_engine
from rlaif.engines.vllm.server import serve_vllm
from rlaif.judging import build_judge
from rlaif.records import Comparison, Prompt, Response, Verdict
from rlaif.templates import TemplateSet
from tests.engines.real_vllm import PYTHON, needs_vllm

MODEL = "smollm2-135m-instruct"


async def _judge(engine: Engine) -> list[Verdict]:
    judge = build_judge(name="main", method="pairwise", engine=engine, templates=TemplateSet.open())
    verdicts: list[Verdict] = []
    for principle in load_constitution("hhh").judged()[:6]:
        for example in principle.examples[:1]:
            prompt = Prompt.build(example.prompt)
            comparison = Comparison(
                Response.build(prompt.id, example.better, index=0),
                Response.build(prompt.id, example.worse, index=1),
            )
            verdicts += await judge.judge(prompt, comparison, [principle])
    return verdicts


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(900)
@needs_vllm
async def test_vllm_and_the_embedded_engine_agree_on_every_label(tmp_path: Path):
    local = open_engine("transformers", model=MODEL, options={"dtype": "float32"})
    expected = await _judge(local)
    with serve_vllm(
        MODEL, python=PYTHON, log=str(tmp_path / "vllm.log"), max_model_len=2048, kv_cache_gib=1
    ) as server:
        served = open_engine(**server.engine_config)
        found = await _judge(served)
        constrained = open_engine(
            "openai",
            model=server.model,
            base_url=server.base_url,
            options={"structured": "structured_outputs"},
        )
        assert Capability.STRUCTURED in constrained.capabilities
        question = ({"role": "user", "content": "Which is better, A or B?"},)
        words = await constrained.ask(
            Generate(question, Sampling(max_tokens=4), (1, 2), choices=("A", "B"))  # type: ignore[arg-type]
        )
        await served.aclose()
        await constrained.aclose()
    await local.aclose()
    assert {reply.text for reply in words} <= {"A", "B"}
    assert len(found) == len(expected) == 12
    for one, other in zip(expected, found, strict=True):
        assert one.logit is not None
        assert other.logit is not None
        assert other.logit == pytest.approx(one.logit, abs=2e-2)
        assert other.mass == pytest.approx(one.mass, rel=2e-2)
