"""PPO, ours: policy, value model, reference and reward model, all weights trained."""

import json
import sys
from pathlib import Path

from timing import clocks, gpu_peak
from transformers import set_seed

from rlaif.config.ppo import PpoConfig
from rlaif.training.harness.online import Asked, read_online
from rlaif.training.harness.recipe import quiet_libraries
from rlaif.training.ppo.build import build_trainer, gather, load_actor_critic
from rlaif.training.ppo.checkpoint import State
from rlaif.training.ppo.distributed import join_processes
from rlaif.training.ppo.losses import KlControl
from rlaif.training.reward_model_scorer import reward_model_scorer

job = json.loads(Path(sys.argv[1]).read_text())
sizes = job["ppo"]
lines = Path(job["prompts"]).read_text().splitlines()
config = PpoConfig(
    model=job["model"],
    out=Path(job["work"]) / "ppo-ours",
    critic=job["reward_model"],
    critic_warmup=0,
    rollouts=sizes["rollouts"],
    rollout_size=sizes["rollout"],
    minibatch_size=sizes["minibatch"],
    epochs=sizes["epochs"],
    max_new_tokens=sizes["new_tokens"],
    learning_rate=sizes["rate"],
)
with quiet_libraries():
    world = join_processes()
    scorer = reward_model_scorer(job["reward_model"])
    inputs = read_online(config, Asked(scorer, [json.loads(line)["prompt"] for line in lines]))
    set_seed(config.seed)
    loaded = load_actor_critic(config, world)
    models = gather(loaded, inputs.tokenizer, inputs.data.prompts)
    trainer, _ = build_trainer(models, scorer, config, world)
    began, cpu_began = clocks()
    start = State(KlControl(config.beta, config.kl_target, config.kl_gain))
    rows = [metrics for _, metrics, _ in trainer.run(start)]
    ended, cpu_ended = clocks()
samples = sizes["rollouts"] * sizes["rollout"]
found = {
    **gpu_peak(),
    "seconds": (ended - began) / samples,
    "cpu_seconds": (cpu_ended - cpu_began) / samples,
    "tokens": sum(row["response/tokens"] for row in rows) / len(rows),
    "parts": {name: rows[-1][name] for name in rows[-1] if name.startswith("seconds/")},
}
Path(sys.argv[2]).write_text(json.dumps(found))
