"""Loads an export with a consumer's own functions; run as a program, prints what they made of it.

    python consumers.py WHICH FOLDER EXPORT MODEL

Their packages import what does not install here (DeepSpeed, Ray, flash-attn), so packages are put
up without running their ``__init__``; the modules that read data are theirs, unchanged.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

DATA = "data/train-00000-of-00001.parquet"


def put_up(root: Path, *packages: str) -> None:
    """Make packages importable without running what they do at import."""
    for name in packages:
        package = ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = package
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, package)


def stand_in(name: str, **attributes: Any) -> None:
    """Put something in place of a library that is not installed."""
    module = ModuleType(name)
    for key, value in attributes.items():
        setattr(module, key, value)
    sys.modules[name] = module


def tokenizer_of(model: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def openrlhf(root: Path, what: str, export: Path, model: str) -> Any:
    put_up(root, "openrlhf", "openrlhf.datasets", "openrlhf.utils")
    blend = importlib.import_module("openrlhf.datasets.utils").blending_datasets
    keys = {
        "pairs": {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"},
        "demonstrations": {"input_key": "input", "output_key": "output"},
        "prompts": {"input_key": "prompt", "label_key": "label"},
    }[what]
    strategy = SimpleNamespace(
        args=SimpleNamespace(data=SimpleNamespace(apply_chat_template=True, **keys), use_ms=False),
        print=lambda *_: None,
        is_rank_0=lambda: False,
    )
    rows = blend(str(export / DATA), strategy=strategy)
    tokenizer = tokenizer_of(model)

    def words(ids: Any) -> str:
        # It adds an end wherever a template's text does not end with one to the letter, and ours
        # ends with a space.
        return str(tokenizer.decode(ids.flatten())).replace("</s> </s>", "</s>")

    if what == "pairs":
        kind = importlib.import_module("openrlhf.datasets.reward_dataset").RewardDataset
        found = [
            [
                kind(rows, tokenizer, 128, strategy, is_dpo=dpo, num_processors=1)[i]
                for dpo in (0, 1)
            ]
            for i in range(len(rows))
        ]
        return [
            {
                "chosen": words(reward[0]),
                "rejected": words(reward[2]),
                "margin": reward[4],
                "prompt": words(dpo[0].flatten()[: dpo[4]]),
            }
            for reward, dpo in found
        ]
    if what == "demonstrations":
        kind = importlib.import_module("openrlhf.datasets.sft_dataset").SFTDataset
        made = kind(rows, tokenizer, 128, strategy, num_processors=1)
        return [
            {"text": words(ids), "learned": words(ids.flatten()[1:][mask.flatten()[:-1] == 1])}
            for ids, _, mask in (made[i] for i in range(len(made)))
        ]
    kind = importlib.import_module("openrlhf.datasets.prompts_dataset").PromptDataset
    made = kind(rows, tokenizer, strategy)
    return [dict(zip(("datasource", "prompt", "label"), made[i], strict=False)) for i in range(3)]


def verl(root: Path, what: str, export: Path, model: str) -> Any:
    stand_in("omegaconf", DictConfig=dict, ListConfig=tuple)
    put_up(root, "verl", "verl.utils", "verl.utils.dataset")
    tokenizer = tokenizer_of(model)
    if what == "prompts":
        stand_in("verl.utils.dataset.vision_utils")
        kind = importlib.import_module("verl.utils.dataset.rl_dataset").RLHFDataset
        config = {"cache_dir": str(export / "cache"), "filter_overlong_prompts_workers": 1}
        made = kind(str(export / DATA), tokenizer, {**config, "max_prompt_length": 64})
        keys = ("raw_prompt", "data_source", "reward_model", "extra_info")
        return [{key: made[i].get(key) for key in keys} for i in range(len(made))]
    stand_in("tensordict", TensorDict=None)
    stand_in("tensordict.tensorclass", NonTensorData=None, NonTensorStack=None)
    put_up(root, "verl.models", "verl.models.transformers")
    stand_in("verl.models.transformers.qwen2_vl", get_rope_index=None)
    stand_in("verl.utils.dataset.vision_utils", process_image=None, process_video=None)
    sys.modules["verl.utils"].hf_tokenizer = tokenizer_of  # type: ignore[attr-defined]
    kind = importlib.import_module("verl.utils.dataset.multiturn_sft_dataset").MultiTurnSFTDataset
    made = kind(
        str(export / DATA), tokenizer, {"max_length": 64, "ignore_input_ids_mismatch": False}
    )
    found = []
    for i in range(len(made)):
        row = made[i]
        ids = row["input_ids"]
        found.append({"learned": tokenizer.decode(ids[row["loss_mask"] == 1])})
    return found


def llama_factory(root: Path, what: str, export: Path, model: str) -> Any:
    del model
    put_up(root, "llamafactory", "llamafactory.data", "llamafactory.extras", "llamafactory.hparams")
    get = importlib.import_module("llamafactory.data.parser").get_dataset_list
    converter = importlib.import_module("llamafactory.data.converter")
    (name,) = json.loads((export / "dataset_info.json").read_text())
    (attributes,) = get([name], str(export))
    constants = importlib.import_module("llamafactory.extras.constants")
    from datasets import load_dataset

    path = export / attributes.dataset_name
    kind = constants.FILEEXT2TYPE[path.suffix[1:]]
    rows = load_dataset(kind, data_files=[str(path)], split=attributes.split)
    convert = converter.get_dataset_converter(
        attributes.formatting, attributes, SimpleNamespace(media_dir="")
    )
    return [convert(row) for row in rows]


def axolotl(root: Path, what: str, export: Path, model: str) -> Any:
    import logging

    import datasets
    from ruamel.yaml import YAML

    put_up(root, "axolotl", "axolotl.utils", "axolotl.utils.schemas", "axolotl.prompt_strategies")
    put_up(root, "axolotl.prompt_strategies.dpo", "axolotl.utils.data", "axolotl.common")
    stand_in("axolotl.utils.logging", get_logger=lambda *_, **__: logging.getLogger())
    stand_in("axolotl.common.const", DEFAULT_DATASET_PREPARED_PATH="")
    stand_in("axolotl.utils.data.utils", deduplicate_and_log_datasets=None, md5=None)
    stand_in("axolotl.utils.datasets", get_default_process_count=None)
    stand_in("addict", Dict=_Config)
    stand_in("colorama", Fore=SimpleNamespace(CYAN="", RESET=""))
    schemas = importlib.import_module("axolotl.utils.schemas.datasets")
    config = YAML(typ="safe").load((export / "axolotl.yaml").read_text())
    (entry,) = config["datasets"]
    kind = schemas.DPODataset if what == "pairs" else schemas.SFTDataset
    checked = kind(**entry).model_dump(exclude_none=True)
    # Its schemas drop keys they do not know: none of ours is one.
    assert {key: checked.get(key) for key in entry} == entry
    shared: Any = importlib.import_module("axolotl.utils.data.shared")

    def load_dataset(*places: Any, trust_remote_code: Any = None, **options: Any) -> Any:
        assert trust_remote_code is None  # a word that newer versions of datasets no longer know
        return datasets.load_dataset(*places, **options)

    shared.load_dataset = load_dataset
    os.chdir(export)  # its paths are relative to where it is started
    rows = shared.load_dataset_with_config(_Config(entry), use_auth_token=False)
    tokenizer = tokenizer_of(model)
    settings = _Config(config | {"chat_template": "tokenizer_default", "sequence_len": 64})
    if what == "pairs":
        dpo = importlib.import_module("axolotl.prompt_strategies.dpo.chat_template")
        assert entry["type"] == "chat_template.default"
        transform, _ = dpo.default(settings)
        return [transform(dict(row), tokenizer=tokenizer) for row in rows]
    assert entry["type"] == "chat_template"
    sft = importlib.import_module("axolotl.prompt_strategies.chat_template")
    strategy = sft.load(tokenizer, settings, ds_cfg=entry)
    made = [strategy.tokenize_prompt(dict(row)) for row in rows]
    return [
        {"learned": tokenizer.decode([one for one in row["labels"] if one != -100])} for row in made
    ]


class _Config(dict):  # type: ignore[type-arg]
    """What axolotl reads its configuration through: keys as attributes, absent ones None."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


if __name__ == "__main__":
    which, folder, kind, path, model_path = sys.argv[1:]
    consumers = {
        "openrlhf": openrlhf,
        "verl": verl,
        "llama-factory": llama_factory,
        "axolotl": axolotl,
    }
    result = consumers[which](Path(folder), kind, Path(path), model_path)
    sys.stdout.write("RESULT " + json.dumps(result, default=str) + "\n")
