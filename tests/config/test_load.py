import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlaif.config import RunConfig, load_config, load_yaml, parse_overrides
from rlaif.config.load import SHIPPED_MODELS
from rlaif.config.ppo import PpoConfig
from rlaif.config.prompts import PromptsConfig
from rlaif.config.train import SftConfig
from rlaif.errors import ConfigError
from rlaif.records import canonical_json

GOOD = """\
name: demo
prompts: {path: prompts.jsonl}
constitution: concise
student: {engine: scripted, model: echo}
out: runs/demo
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem(folder: Path, text: str | bytes, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, write(folder, text), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(folder), "")


def test_relative_paths_start_at_the_folder_of_the_file_that_names_them(tmp_path: Path):
    config = load_config(RunConfig, write(tmp_path, GOOD))
    assert config.out == tmp_path / "runs/demo"
    assert config.prompts.path == str(tmp_path / "prompts.jsonl")


def test_paths_given_on_the_command_line_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = load_config(RunConfig, write(tmp_path, GOOD), {"out": "here"})
    assert config.out == elsewhere / "here"


def test_a_constitution_is_a_file_if_it_exists_else_a_name(tmp_path: Path):
    path = write(tmp_path, GOOD)
    assert load_config(RunConfig, path).constitution == "concise"
    (tmp_path / "concise").write_text("x")
    assert load_config(RunConfig, path).constitution == str(tmp_path / "concise")


def test_a_folder_is_neither_a_constitution_nor_a_chat_template(tmp_path: Path):
    for name in ("concise", "chatml"):
        (tmp_path / name).mkdir()
    assert load_config(RunConfig, write(tmp_path, GOOD)).constitution == "concise"
    training = write(tmp_path, "{model: m, out: o, chat_template: chatml}")
    assert load_config(SftConfig, training).chat_template == "chatml"


def test_a_shipped_model_comes_before_a_folder_of_its_name(tmp_path: Path):
    (name,) = SHIPPED_MODELS
    (tmp_path / name).mkdir()
    text = GOOD.replace("scripted, model: echo", f"transformers, model: {name}")
    assert load_config(RunConfig, write(tmp_path, text)).student.model == name
    folder = text.replace(name, f"./{name}")
    assert load_config(RunConfig, write(tmp_path, folder)).student.model == str(tmp_path / name)


@pytest.mark.parametrize("engine", ["openai", "scripted"])
def test_a_model_behind_a_server_is_a_name_whatever_lies_beside_the_file(
    tmp_path: Path, engine: str
):
    (tmp_path / "Qwen" / "Qwen3-8B").mkdir(parents=True)
    (tmp_path / "ok").mkdir()
    text = GOOD.replace("{engine: scripted, model: echo}", f"{{engine: {engine}, model: ok}}")
    judge = f"judges: [{{engine: {engine}, model: Qwen/Qwen3-8B}}]\n"
    config = load_config(RunConfig, write(tmp_path, text + judge))
    assert (config.student.model, config.judges[0].model) == ("ok", "Qwen/Qwen3-8B")


def test_a_model_in_this_process_is_a_folder_beside_the_file(tmp_path: Path):
    (tmp_path / "Qwen" / "Qwen3-8B").mkdir(parents=True)
    text = GOOD.replace("scripted, model: echo", "transformers, model: Qwen/Qwen3-8B")
    config = load_config(RunConfig, write(tmp_path, text))
    assert config.student.model == str(tmp_path / "Qwen" / "Qwen3-8B")


def test_the_students_name_among_judges_comes_before_a_folder_of_that_name(tmp_path: Path):
    (tmp_path / "same-as-student").mkdir()
    text = GOOD + "judges: [{model: same-as-student}]\n"
    config = load_config(RunConfig, write(tmp_path, text))
    assert config.judges[0].model == "same-as-student"


def test_an_integer_that_no_record_can_hold_is_named(tmp_path: Path):
    text = GOOD.replace("model: echo", "model: echo, options: {limits: [1, 36893488147419103232]}")
    assert "student.options.limits.1: the number is too large" in problem(tmp_path, text)


def test_the_words_for_a_critic_come_before_folders_of_their_name(tmp_path: Path):
    for name in ("policy", "scorer"):
        (tmp_path / name).mkdir()
    text = "{model: m, out: o, prompts: {path: p}, reward: {rules: concise}, critic: NAME}"
    config = load_config(PpoConfig, write(tmp_path, text.replace("NAME", "policy")))
    assert config.critic == "policy"
    config = load_config(PpoConfig, write(tmp_path, text.replace("NAME", "scorer")))
    assert config.critic == str(tmp_path / "scorer")


def test_an_unknown_key_is_named_with_its_place_and_the_nearest_valid_one(tmp_path: Path):
    message = problem(tmp_path, GOOD.replace("path:", "pth:"))
    assert "/run.yaml:2:11: unknown key 'prompts.pth'; did you mean 'path'?" in message


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path):
    message = problem(tmp_path, GOOD.replace("scripted", "scriptd").replace("name: demo", "nam: 1"))
    assert "did you mean 'name'?" in message
    assert "did you mean 'scripted'?" in message
    assert "'name' is missing" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "expected keys and values"),
        ("a: 1\na: 2\n", ":2:1: the key 'a' is given twice"),
        ("a: [1, 2\nb: 3\n", ":2:2: not valid YAML"),
        (
            "a: !!python/object/apply:os.system [x]\n",
            "expected keys and values|unknown key|missing",
        ),
        ("a: &x [*x]\n", "aliases refer to themselves"),
        ("a: 1\n---\nb: 2\n", "2 YAML documents"),
        (b"name: \xff\xfe\n", "not UTF-8"),
        ("1: a\n", ":1:1: a key must be text"),
    ],
)
def test_an_invalid_settings_file_is_reported_in_one_line(tmp_path: Path, text: str, words: str):
    assert re.search(words, problem(tmp_path, text))


def test_a_missing_file_and_a_folder_have_different_messages(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(RunConfig, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(RunConfig, tmp_path)


def test_small_files_that_expand_to_billions_are_refused(tmp_path: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    path = write(tmp_path, "\n".join(lines))
    with pytest.raises(ConfigError, match="expand too far"):
        load_yaml(path, ConfigError)


def test_no_is_text_and_not_false(tmp_path: Path):
    assert load_yaml(write(tmp_path, "a: no\n"), ConfigError).data == {"a": "no"}


def test_overrides_reach_into_lists_and_create_what_is_missing(tmp_path: Path):
    text = GOOD + "judges: [{engine: scripted, model: judge-longer}]\n"
    overrides = parse_overrides(["judges.0.model=judge-random", "judging.orders=one", "seed=7"])
    config = load_config(RunConfig, write(tmp_path, text), overrides)
    assert config.judges[0].model == "judge-random"
    assert config.judging.orders == "one"
    assert config.seed == 7


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"judges.3.model": "x"}, "not one of the 0 items"),
        ({"name.x": 1}, "has no parts"),
        ({"prompts.lmit": 1}, "did you mean 'limit'"),
    ],
)
def test_an_override_with_an_invalid_key_is_an_error(
    tmp_path: Path, overrides: dict[str, Any], words: str
):
    assert words in problem(tmp_path, GOOD + "judges: []\n", overrides)


@pytest.mark.parametrize("text", ["novalue", "=3", " =3"])
def test_an_assignment_needs_a_key_and_an_equals_sign(text: str):
    with pytest.raises(ConfigError, match="key=value"):
        parse_overrides([text])


@given(st.dictionaries(st.sampled_from(["a", "b.c", "d.0"]), st.integers() | st.booleans()))
def test_json_values_survive_being_given_as_text(values: dict[str, Any]):
    texts = [f"{key}={str(value).lower()}" for key, value in values.items()]
    assert parse_overrides(texts) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[pairwise]", ["pairwise"]),
        ("[pairwise, no, 1e-5, '2']", ["pairwise", "no", 1e-5, "2"]),
        ("{a: b, c: [1, x]}", {"a": "b", "c": [1, "x"]}),
        ('["pairwise"]', ["pairwise"]),
        ("[]", []),
    ],
)
def test_lists_and_mappings_may_be_given_without_quotes(text: str, value: Any):
    assert parse_overrides([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize(
    "text",
    [
        *("no", "yes", "a: b", "- a", "~", "0x10", "1_000", "a=b", "", " [a]", "[a", "]"),
        *("runs/[ab]", "[ab]*.jsonl", "{a}-{b}"),
        *("[a: b: c]", "[*x]", "[!!python/none x]", "{a: 1, a: 2}"),
    ],
)
def test_any_other_text_stays_text(text: str):
    assert parse_overrides([f"key={text}"]) == {"key": text}


def test_a_number_is_what_json_says_it_is():
    assert parse_overrides(["a=1e-5", "b=007"]) == {"a": 1e-5, "b": "007"}


def test_paths_in_a_list_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(RunConfig, write(tmp_path, GOOD), parse_overrides(["reuse=[one, two]"]))
    assert [path.parent.name for path in config.reuse] == ["elsewhere", "elsewhere"]


def test_two_judges_with_the_same_name_are_refused(tmp_path: Path):
    judge = "{name: a, engine: scripted, model: judge-longer}"
    assert "named 'a'" in problem(tmp_path, GOOD + f"judges: [{judge}, {judge}]\n")


def test_a_judge_names_its_engine_or_is_the_student(tmp_path: Path):
    assert "same-as-student" in problem(tmp_path, GOOD + "judges: [{model: x}]\n")
    config = load_config(RunConfig, write(tmp_path, GOOD + "judges: [{model: same-as-student}]\n"))
    assert config.judges[0].engine is None


@pytest.mark.parametrize(
    "address",
    [
        "sftp://me:secret@host/run",
        "s3://AKIA7:sec/ret@bucket/run",
        "https://secret@host/run",
        "simplecache::ftp://me:secret@host/run",
        "https://host/run?x=1&sig=secret",
        "s3://bucket/run?secret_key=secret",
    ],
)
@pytest.mark.parametrize("key", ["out", "reuse", "prompts.path", "prompts.decontaminate"])
def test_an_address_with_a_secret_in_it_is_refused_and_not_repeated(
    tmp_path: Path, address: str, key: str
):
    value: Any = {"out": address, "reuse": [address], "prompts.path": address}.get(
        key, {"against": [address]}
    )
    said = problem(tmp_path, GOOD, {key: value})
    assert f"{key}" in said
    assert "password or signature" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "address",
    [
        "abfs://container@account.dfs.core.windows.net/run",
        "sftp://me@host:22/run@1",
        "s3://bucket/a:b@c/run",
        "gs://bucket/run?version=2",
    ],
)
def test_an_address_with_a_user_a_port_or_a_container_is_accepted(tmp_path: Path, address: str):
    config = load_config(RunConfig, write(tmp_path, GOOD), {"out": address, "reuse": [address]})
    assert config.out == Path(address) == config.reuse[0]


def test_a_path_that_was_an_address_with_a_secret_is_refused_too():
    plain: dict[str, Any] = {
        "name": "demo",
        "prompts": {"path": "p.jsonl"},
        "constitution": "concise",
        "student": {"engine": "scripted", "model": "echo"},
        "out": Path("sftp://me:secret@host/run"),
    }
    with pytest.raises(ConfigError, match="password or signature"):
        load_config(RunConfig, plain)


def test_merge_keys_add_the_keys_that_a_mapping_lacks(tmp_path: Path):
    text = """\
base: &base {a: 1, b: 2}
more: &more {b: 3, c: {x: 4}}
one: {<<: *base, b: 5}
two: {<<: [*more, *base], d: 6}
three: {<<: {<<: *base, a: 7}}
"""
    data = load_yaml(write(tmp_path, text), ConfigError).data
    assert data["one"] == {"b": 5, "a": 1}
    assert data["two"] == {"d": 6, "b": 3, "c": {"x": 4}, "a": 1}
    assert data["three"] == {"a": 7, "b": 2}


def test_a_mistake_in_a_merged_mapping_is_reported_where_it_is_written(tmp_path: Path):
    text = GOOD.replace(
        "student: {", "judges: [&j {name: a, engine: scripted, modle: judge-longer}]\nstudent: {"
    ).replace("out:", "gate: {<<: *j}\nout:")
    assert "/run.yaml:4:41: unknown key 'gate.modle'" in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {<<: 5}\n", ":1:5: << merges mappings only"),
        ("a: {<<: [x]}\n", ":1:5: << merges mappings only"),
        ("a: &a {<<: *a}\n", "aliases refer to themselves"),
        ("b: &b {x: 1}\na: {<<: *b, <<: *b}\n", ":2:13: the key '<<' is given twice"),
    ],
)
def test_an_invalid_merge_is_refused_in_one_line(tmp_path: Path, text: str, words: str):
    message = problem(tmp_path, text)
    assert words in message
    assert "\n" not in message


def test_merges_that_expand_to_billions_are_refused(tmp_path: Path):
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="expand too far"):
        load_yaml(write(tmp_path, "\n".join(lines)), ConfigError)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"seed": "x"}, "--set seed: expected a whole number (found 'x')"),
        ({"student.sampling.n": 0}, "--set student.sampling.n: must be at least 1 (found 0)"),
        (
            {"student.sampling": {"n": 1, "topp": 2}},
            "--set student.sampling: unknown key 'student.sampling.topp'; did you mean 'top_p'?",
        ),
        ({"judges.0.engine": "nope"}, "--set judges.0.engine: 'nope' is not allowed; did you mean"),
        ({"prompts.lmit": 1}, "--set prompts.lmit: unknown key 'prompts.lmit'; did you mean"),
        ({"prompts.hub": "a/b"}, "/run.yaml:2:1 (with --set prompts.hub): prompts: give exactly"),
        ({"name": "a b"}, "--set name: use letters, digits, '.', '_' and '-' only"),
        ({"pairing": "x"}, "--set pairing: expected keys and values (found 'x')"),
    ],
)
def test_a_mistake_made_with_set_names_set(tmp_path: Path, overrides: dict[str, Any], line: str):
    text = GOOD + "judges: [{name: a, engine: scripted, model: judge-longer}]\n"
    assert problem(tmp_path, text, overrides).startswith(line)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "a b"),
        ("name", [1]),
        ("seed", "x"),
        ("seed", 1.5),
        ("out", None),
        ("prompts", 5),
        ("prompts", {"path": "x", "partition": "3"}),
        ("prompts", {"path": 5}),
        ("prompts", {"path": "x", "dedup": {"threshold": 2}}),
        ("student", 5),
        ("student", {"engine": "scripted", "model": [1]}),
        ("judges", "a"),
        ("judges", [5]),
        ("judging", {"principles": {"choose": "x"}}),
        ("judging", {"principles": {"choose": {"k": 0}}}),
        ("judging", {"principles": {"choose": {"l": 0}}}),
        ("revise", {"critic": 5}),
        ("revise", {"critic": {"engine": "x"}}),
        ("gate", {"audit": "x", "min_accuracy": {}}),
        ("gate", {"audit": "x", "min_accuracy": {"a": "b"}}),
        ("budget", {"max_price": -1}),
        ("ray", {"cpus": float("inf")}),
    ],
)
def test_messages_contain_neither_class_names_nor_patterns(key: str, value: Any):
    settings = {
        "name": "a",
        "prompts": {"path": "p.jsonl"},
        "constitution": "concise",
        "student": {"engine": "scripted", "model": "echo"},
        "out": "o",
    }
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, settings | {key: value})
    message = str(caught.value)
    assert not re.search(r"Config\b|Settings|pydantic|<class|\\d|\[A-Z|dictionary|Input", message)
    # A place in a union is one mistake.
    places = [line.split(": ")[1] for line in message.splitlines()]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 2**200])
def test_a_long_integer_given_as_text_keeps_its_digits(number: int):
    assert parse_overrides([f"a={number}", f"b=[{number}]"]) == {"a": number, "b": [number]}


@pytest.mark.parametrize("text", ["NaN", "Infinity", r'"\ud800"', '{"a": 1, "a": 2}', "9" * 5000])
def test_text_that_json_cannot_represent_stays_text(text: str):
    assert parse_overrides([f"a={text}"]) == {"a": text}


def test_prompts_may_be_a_list_in_yaml_and_in_python(tmp_path: Path):
    text = GOOD.replace("{path: prompts.jsonl}", "[Name a colour., {prompt: Name a sea.}]")
    expected = ("Name a colour.", {"prompt": "Name a sea."})
    from_file = load_config(RunConfig, write(tmp_path, text), {"prompts.limit": 1})
    assert (from_file.prompts.items, from_file.prompts.limit) == (expected, 1)
    data = load_yaml(write(tmp_path, text), ConfigError).data
    config = load_config(RunConfig, data)
    assert config.prompts.items == expected
    # As the manifest keeps it.
    assert RunConfig.model_validate(config.model_dump(mode="json")).prompts == config.prompts


@pytest.mark.parametrize("given", ["[]", "{items: []}"])
def test_an_empty_list_of_prompts_is_refused(tmp_path: Path, given: str):
    text = GOOD.replace("{path: prompts.jsonl}", given)
    assert "prompts: the list of prompts is empty" in problem(tmp_path, text)


def test_a_long_list_of_prompts_is_shown_in_part_whatever_it_holds():
    odd = ("half \ud83d", 2**70, {"day": date(2024, 1, 1)}, float("nan"))
    settings = PromptsConfig(items=(*odd, *map(str, range(150))))
    shown = settings.model_dump(mode="json")["items"]
    assert shown[:4] == ["half ?", str(2**70), {"day": "2024-01-01"}, "NaN"]
    assert (len(shown), shown[-1]) == (101, "… and 54 more")
    canonical_json(shown)
