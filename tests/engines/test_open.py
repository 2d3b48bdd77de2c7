import subprocess
import sys

import pytest

from rlaif.engines import open_engine
from rlaif.errors import ConfigError, EngineMissing


def test_an_unknown_engine_names_the_nearest():
    with pytest.raises(EngineMissing, match="did you mean 'transformers'"):
        open_engine("transformer", model="x")


@pytest.mark.parametrize(
    ("engine", "argument"),
    [("scripted", "revision"), ("scripted", "base_url"), ("transformers", "api_key_env")],
)
def test_an_argument_the_engine_has_no_use_for_is_refused(engine: str, argument: str):
    with pytest.raises(ConfigError, match=argument):
        open_engine(engine, model="echo", **{argument: "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.startswith("rlaif.engines.local")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EngineMissing, match=missing) as problem:
        open_engine("transformers", model="smollm2-135m-instruct")
    assert problem.value.hint == "pip install 'constitutional-rlaif[local]'"


def test_opening_a_script_loads_no_model_library():
    program = (
        "import sys; from rlaif.engines import open_engine; open_engine('scripted', model='echo');"
        "print([n for n in ('torch', 'transformers', 'openai', 'aiohttp') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert shown.stdout.strip() == b"[]"
