"""What is said wrongly, or missing, before anything is sent; and what makes two engines equal."""

import builtins
from typing import Any

import pytest

from rlaif.engines import Capability, request_key
from rlaif.engines.openai.engine import build_openai_engine
from rlaif.engines.openai.options import (
    NO_KEY,
    OpenAIOptions,
    is_self_hosted,
    read_headers,
    read_options,
    read_urls,
)
from rlaif.engines.openai.providers import PRESETS
from rlaif.errors import ConfigError, EngineMissing
from tests.engines.asking import request

LOCAL = "http://127.0.0.1:8000/v1"


def identity(base_url: str | None = LOCAL, **options: Any) -> dict[str, Any]:
    engine = build_openai_engine(model="m", base_url=base_url, options=options)
    return dict(engine.identity)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ConfigError, match=r"options\.timout_s.*did you mean 'timeout_s'"):
        read_options({"timout_s": 5})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"transport": "quick"}, "transport"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"labels": "exact"}, "labels"),
        ({"extra_body": {"n": 3}}, "extra_body may not set n"),
        ({"price": {"input_per_million": 1}}, "output_per_million"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], named: str):
    with pytest.raises(ConfigError, match=named):
        read_options(options)


def test_a_missing_key_names_the_variable(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(EngineMissing, match="JUDGE_KEY is not set"):
        build_openai_engine(model="m", base_url=LOCAL, api_key_env="JUDGE_KEY")


def test_a_missing_header_variable_names_variable_and_option(monkeypatch):
    monkeypatch.delenv("TEAM", raising=False)
    with pytest.raises(EngineMissing, match=r"TEAM is not set \(options\.headers_env\.X-Team\)"):
        build_openai_engine(model="m", base_url=LOCAL, options={"headers_env": {"X-Team": "TEAM"}})


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret\nX-Other: 1")
    with pytest.raises(EngineMissing) as missing:
        build_openai_engine(model="m", base_url=LOCAL, api_key_env="JUDGE_KEY")
    assert "sk-secret" not in str(missing.value)


def test_openai_itself_needs_a_key():
    with pytest.raises(EngineMissing, match="api_key_env: OPENAI_API_KEY"):
        build_openai_engine(model="m")


@pytest.mark.parametrize(("transport", "module"), [("sdk", "openai"), ("fast", "aiohttp")])
def test_a_missing_extra_says_what_to_install(monkeypatch, transport: str, module: str):
    real = builtins.__import__

    def blocked(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == module:
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(EngineMissing) as missing:
        build_openai_engine(model="m", base_url=LOCAL, options={"transport": transport})
    assert module in missing.value.message
    assert "constitutional-rlaif[openai]" in missing.value.hint


def test_addresses_are_normalised_and_sorted():
    urls = ("http://Host-B:80/v1/", "http://host-a:8001/v1", "http://host-b/v1")
    assert read_urls(None, urls) == ("http://host-a:8001/v1", "http://host-b/v1")
    assert read_urls("https://api.example.com:443/v1//", ()) == ("https://api.example.com/v1",)
    assert read_urls("http://[::1]:8000/v1", ()) == ("http://[::1]:8000/v1",)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1", ""]
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ConfigError, match="not an address"):
        read_urls(url, ())


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host/v1", "http://host/v1?key=hunter2", "http://host/v1#hunter2"]
)
def test_an_address_with_a_secret_is_refused_without_showing_it(url: str):
    with pytest.raises(ConfigError) as wrong:
        read_urls(url, ())
    assert "hunter2" not in str(wrong.value)


def test_one_way_to_give_addresses():
    with pytest.raises(ConfigError, match="exclude each other"):
        read_urls(LOCAL, (LOCAL,))


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://judge.team.internal/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://8.8.8.8/v1", False),
    ],
)
def test_self_hosted_servers_are_told_from_others(url: str, own: bool):
    assert is_self_hosted(url) is own
    assert OpenAIOptions().bounds([url]).maximum == (512 if own else 200)


def test_a_configured_maximum_wins():
    assert OpenAIOptions(max_concurrency=7).bounds([LOCAL]).maximum == 7


def test_identity_holds_what_changes_answers():
    assert identity(extra_body={"a": 1}) == {
        "engine": "openai",
        "model": "m",
        "base_url": LOCAL,
        "extra_body": {"a": 1},
        "labels": "auto",
        "top_logprobs": 20,
        "structured": "auto",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"transport": "fast"},
        {"timeout_s": 5},
        {"max_concurrency": 3},
        {"requests_per_minute": 9},
        {"max_attempts": 1},
        {"price": {"input_per_million": 1, "output_per_million": 2}},
    ],
)
def test_speed_and_money_are_no_part_of_identity(options: dict[str, Any]):
    assert identity(**options) == identity()


@pytest.mark.parametrize(
    "options", [{"extra_body": {"a": 1}}, {"labels": "top_logprobs"}, {"top_logprobs": 5}]
)
def test_what_changes_answers_changes_identity(options: dict[str, Any]):
    assert identity(**options) != identity()


def test_the_order_of_addresses_changes_nothing():
    one = identity(None, base_urls=["http://a:1/v1", "http://b:1/v1"])
    other = identity(None, base_urls=["http://b:1/v1/", "http://a:1/v1"])
    assert one == other
    assert one["base_url"] == ["http://a:1/v1", "http://b:1/v1"]


def key_at(*urls: str, **options: Any) -> str:
    return request_key(identity(None, base_urls=list(urls), **options), request(), 1)


def test_ledger_keys_stay_when_servers_move_under_a_name_somebody_vouches_for():
    one = key_at("http://a:1/v1", served_as="our-qwen")
    assert key_at("http://b:2/v1", served_as="our-qwen") == one
    assert key_at("http://a:1/v1", "http://b:2/v1", served_as="our-qwen") == one
    assert key_at("http://a:1/v1", served_as="other-weights") != one


def test_ledger_keys_change_with_the_address_where_nobody_vouches():
    one = key_at("http://a:1/v1")
    assert key_at("http://b:2/v1") != one
    assert key_at("http://a:1/v1", served_as="our-qwen") != one


@pytest.mark.parametrize("name", ["", " ", " padded"])
def test_a_server_name_has_something_in_it(name: str):
    with pytest.raises(ConfigError, match=r"options\.served_as"):
        read_options({"served_as": name})


def test_no_secret_is_part_of_identity_or_repr(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-key")
    monkeypatch.setenv("TEAM", "team-secret")
    engine = build_openai_engine(
        model="m",
        base_url=LOCAL,
        api_key_env="JUDGE_KEY",
        options={"headers_env": {"X-Team": "TEAM"}},
    )
    assert "secret" not in f"{engine!r}{dict(engine.identity)}{engine.stats()}"


def test_a_preset_sets_options_that_the_users_own_win_over():
    assert read_options({"provider": "fireworks"}).top_logprobs == 5
    assert read_options({"provider": "fireworks", "top_logprobs": 3}).top_logprobs == 3
    assert read_options({"provider": "mistral"}).rename == {"seed": "random_seed"}
    assert read_options({"provider": "mistral", "rename": {}}).rename == {}


@pytest.mark.parametrize("provider", sorted(PRESETS))
def test_every_preset_opens_with_an_address_and_a_key(monkeypatch, provider: str):
    monkeypatch.setenv("SOME_KEY", "sk-of-this-test")
    preset = PRESETS[provider]
    engine = build_openai_engine(
        model="m",
        base_url=None if preset.base_url else LOCAL,
        api_key_env="SOME_KEY",
        options={"provider": provider},
    )
    assert engine.identity["base_url"] == (preset.base_url or LOCAL)
    if not preset.base_url:
        with pytest.raises(ConfigError, match=f"provider: {provider} needs a base_url"):
            build_openai_engine(model="m", api_key_env="SOME_KEY", options={"provider": provider})


def test_an_unknown_provider_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'mistral'"):
        read_options({"provider": "mistrall"})


def test_a_provider_without_log_probabilities_offers_none(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "k")
    engine = build_openai_engine(
        model="m", api_key_env="SOME_KEY", options={"provider": "anthropic"}
    )
    offered = engine.capabilities
    assert not offered & {Capability.TOP_LOGPROBS, Capability.SAMPLES, Capability.STRUCTURED}


def test_a_key_is_never_sent_to_openai_because_an_address_is_missing(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "k")
    engine = build_openai_engine(model="m", api_key_env="SOME_KEY", options={"provider": "gemini"})
    assert "googleapis" in engine.identity["base_url"]


def test_the_key_travels_in_the_header_that_is_named():
    assert read_headers({}, "k", "api-key")["api-key"] == "k"
    assert read_headers({}, "k")["Authorization"] == "Bearer k"


def test_no_dummy_key_beside_a_header_with_the_real_one(monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "k")
    assert "Authorization" not in read_headers({"api-key": "AZURE_KEY"}, NO_KEY)
    assert read_headers({"X-Team": "AZURE_KEY"}, NO_KEY)["Authorization"] == "Bearer EMPTY"


def test_what_is_new_is_in_no_identity_until_it_is_set():
    assert not {"omit", "system", "api", "provider"} & identity().keys()
    assert identity(omit=["top_p"])["omit"] == ["top_p"]
    assert identity(system="fold")["system"] == "fold"
    assert identity(system="send") == identity()
    assert identity(rename={"seed": "random_seed"}, query={"v": "1"}) == identity()


@pytest.mark.parametrize("options", [{"omit": ["messages"]}, {"rename": {"seed": "model"}}])
def test_what_a_call_needs_can_be_neither_left_out_nor_replaced(options: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"leave .* alone"):
        read_options(options)


def test_an_integer_that_no_record_can_hold_is_named():
    with pytest.raises(ConfigError, match=r"options\.extra_body\.seed: .* too large"):
        read_options({"extra_body": {"seed": 2**64}})
