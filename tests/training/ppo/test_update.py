import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from rlaif.config.ppo import (
    ObjectiveSettings,
    PpoRolloutSettings,
    RewardSettings,
    UpdateSettings,
)
from rlaif.config.train import OptimiserSettings
from rlaif.training.forward.logprobs import compute_logprobs, find_head
from rlaif.training.forward.sequences import lay_out
from rlaif.training.ppo.actor_critic import SeparateCritic
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.experience import Experience, Rollout, assess, measure
from rlaif.training.ppo.optimiser import Optimiser
from rlaif.training.ppo.sampling import Sampled, sample_responses
from rlaif.training.ppo.update import Updater
from tests.training.ppo.small import make_critic, make_policy

PAD = 1
RESPONSES = [[21, 22, 1], [23, 1], [24, 25, 26, 27, 28], [1], [29, 30, 31, 1], [32, 33]]
DRAWN = Rollout(
    prompts=[[8, 9, 10], [11], [12, 13, 14, 15], [16, 17], [18], [19, 20]],
    sampled=[Sampled(tokens, ended=tokens[-1] == 1) for tokens in RESPONSES],
    pad_id=PAD,
)
SCORES: list[float | None] = [1.0, -1.0, 0.5, None, 2.0, 0.0]


def make_models(**changes) -> SeparateCritic:
    return SeparateCritic(make_policy(), make_critic(), **changes)


def make_updater(models, *, rate: float = 0.0, objective=None, **changes) -> Updater:
    settings: dict[str, Any] = {"minibatch_size": 6, "epochs": 1, "micro_tokens": 1000}
    steps: dict[str, Any] = {
        "peak": rate,
        "steps": 100,
        "settings": OptimiserSettings(schedule="constant", warmup=0.0, max_grad_norm=1e9),
    }
    return Updater(
        models,
        policy=Optimiser(models.policy_parameters(), **steps),
        critic=Optimiser(models.critic_parameters(), **steps),
        objective=objective or ObjectiveSettings(max_kl=None),
        settings=UpdateSettings(**{"critic_warmup": 0, **settings, **changes}),
        rollouts=PpoRolloutSettings(rollout_size=6),
        world=Distributed(),
    )


def make_experience(models, *, drawn: Rollout = DRAWN, beta: float = 0.1) -> Experience:
    measured = measure(models, drawn, most_tokens=20, device=torch.device("cpu"))
    return assess(drawn, measured, SCORES, beta=beta, settings=RewardSettings())


def test_kl_is_zero_at_step_zero():
    measured = measure(make_models(), DRAWN, most_tokens=20, device=torch.device("cpu"))
    assert measured.kl_BT.abs().max() == 0


def test_ratios_are_one_and_approximate_kl_zero_at_learning_rate_zero():
    models = make_models()
    found = make_updater(models, epochs=3, minibatch_size=2).run(make_experience(models), rollout=0)
    assert found["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert found["policy/ratio_distance"] < 1e-5
    assert found["policy/approx_kl"] == pytest.approx(0.0, abs=1e-9)
    assert found["policy/clip_share"] == 0


def test_every_single_ratio_is_one_before_the_first_step():
    models = make_models()
    experience = make_experience(models)
    batch = DRAWN.lay_out([2, 0, 5], torch.device("cpu"))
    logprobs, _ = models.logprobs(batch)
    old = torch.cat([experience.old_logprobs_BT[i, : len(RESPONSES[i])] for i in (2, 0, 5)])
    assert (logprobs - old).exp().sub(1).abs().max() < 1e-5


def gradients(models: Any, experience: Experience, **changes: Any) -> dict[str, dict[str, Any]]:
    """The gradients of one minibatch of everything, taken where the step would take them."""
    updater = make_updater(models, **changes)
    taken: dict[str, dict[str, Any]] = {}
    for role in ("policy", "critic"):
        optimiser = getattr(updater, role)

        def take(number, world, optimiser=optimiser, role=role):
            taken[role] = {
                name: p.grad.clone()
                for name, p in optimiser.parameters.items()
                if p.grad is not None
            }
            optimiser.clear()
            return 0.0, 0.0

        optimiser.step = take
    updater.run(experience, rollout=0)
    return taken


def test_gradients_do_not_depend_on_the_split_into_micro_batches():
    models = make_models()
    experience = make_experience(models)
    whole = gradients(models, experience, micro_tokens=1000)
    for micro_tokens in (1, 9, 20):
        parts = gradients(models, experience, micro_tokens=micro_tokens)
        for role, grads in whole.items():
            for name, grad in grads.items():
                assert torch.allclose(grad, parts[role][name], atol=1e-6), (role, name)
    assert sum(float(g.abs().sum()) for g in whole["policy"].values()) > 0.1


def test_gradients_do_not_depend_on_the_token_or_the_amount_of_padding(monkeypatch):
    models = make_models()
    plain = gradients(models, make_experience(models))

    def wider(self, rows, device):
        prompts = [self.prompts[i] for i in rows]
        responses = [self.sampled[i].tokens for i in rows]
        batch = lay_out(prompts, responses, pad_id=7, device=device)
        return replace(batch, input_ids_BL=functional.pad(batch.input_ids_BL, (0, 5), value=7))

    monkeypatch.setattr(Rollout, "lay_out", wider)
    padded = gradients(models, make_experience(models))
    for role, grads in plain.items():
        for name, grad in grads.items():
            assert torch.allclose(grad, padded[role][name], atol=1e-6), (role, name)


SHARES = {
    # lengths of the scored responses are 3, 2, 5, 4, 2
    "token-mean": [1 / 16] * 5,
    "sequence-mean": [1 / 15, 1 / 10, 1 / 25, 1 / 20, 1 / 10],
    "sequence-sum": [1 / 5] * 5,
}


@pytest.mark.parametrize("aggregate", SHARES)
@pytest.mark.parametrize("micro_tokens", [9, 1000])
def test_gradients_are_those_of_the_objective_written_down_plainly(aggregate, micro_tokens: int):
    models = make_models()
    experience = make_experience(models)
    objective = ObjectiveSettings(aggregate=aggregate, max_kl=None)
    ours = gradients(models, experience, objective=objective, micro_tokens=micro_tokens)["policy"]
    policy = copy.deepcopy(models.policy)
    rows = [0, 1, 2, 4, 5]  # all but the unscored one
    batch = DRAWN.lay_out(rows, torch.device("cpu"))
    logprobs, _ = compute_logprobs(policy, batch, None)
    mask = experience.mask_BT[rows]
    # At ratio 1 the gradient of −ρA is −A ∇ log π.
    advantages = experience.advantages_BT[rows][mask]
    shares = torch.tensor(SHARES[aggregate])[:, None].expand(mask.shape)[mask]
    torch.autograd.backward(-(shares * advantages * logprobs).sum())
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(ours[name], parameter.grad, atol=1e-6), name


def test_an_unscored_response_changes_nothing():
    models = make_models()
    plain = gradients(models, make_experience(models))
    sampled = [*DRAWN.sampled[:3], Sampled([5, 6, 7], ended=False), *DRAWN.sampled[4:]]
    other = Rollout(DRAWN.prompts, sampled, PAD)
    changed = gradients(models, make_experience(models, drawn=other))
    for name, grad in plain["policy"].items():
        assert torch.allclose(grad, changed["policy"][name], atol=1e-6)


def test_only_the_critic_learns_during_its_warmup():
    models = make_models()
    before = copy.deepcopy(models.policy.state_dict())
    critic_before = copy.deepcopy(models.critic.state_dict())
    updater = make_updater(models, rate=0.01, critic_warmup=1)
    experience = make_experience(models)
    found = updater.run(experience, rollout=0)
    assert not any(name.startswith("policy/") for name in found)
    assert all(torch.equal(before[n], t) for n, t in models.policy.state_dict().items())
    assert any(not torch.equal(critic_before[n], t) for n, t in models.critic.state_dict().items())
    assert "policy/loss" in updater.run(experience, rollout=1)
    assert any(not torch.equal(before[n], t) for n, t in models.policy.state_dict().items())


def test_the_policy_rests_once_it_has_gone_too_far():
    models = make_models()
    updater = make_updater(models, rate=0.05, epochs=10, objective=ObjectiveSettings(max_kl=0.01))
    found = updater.run(make_experience(models), rollout=0)
    assert 0 < found["policy/skipped"] <= 0.5
    free = make_models()
    found = make_updater(free, rate=0.05, epochs=10).run(make_experience(free), rollout=0)
    assert found["policy/skipped"] == 0
    assert found["policy/approx_kl"] > 0.01


def test_a_minibatch_with_absurd_ratios_takes_no_step():
    models = make_models()
    experience = make_experience(models)
    experience.old_logprobs_BT.sub_(5.0)  # as if the rollout came from somewhere else
    before = copy.deepcopy(models.policy.state_dict())
    found = make_updater(models, rate=0.01).run(experience, rollout=0)
    assert found["policy/skipped"] == 1
    assert found["policy/ratio"] > 100
    assert all(torch.equal(before[n], t) for n, t in models.policy.state_dict().items())


def test_the_entropy_bonus_raises_entropy():
    def entropy_after(bonus: float) -> float:
        models = make_models()
        updater = make_updater(
            models,
            rate=0.01,
            epochs=8,
            objective=ObjectiveSettings(entropy_bonus=bonus, max_kl=None),
        )
        updater.run(make_experience(models), rollout=0)
        batch = DRAWN.lay_out(range(6), torch.device("cpu"))
        entropy = models.logprobs(batch, entropy=True)[1]
        assert entropy is not None
        return float(entropy.detach().mean())

    assert entropy_after(1.0) > entropy_after(0.0) + 1e-3


def test_temperature_divides_the_logits_everywhere():
    models = make_models(temperature=0.5)
    measured = measure(models, DRAWN, most_tokens=20, device=torch.device("cpu"))
    batch = DRAWN.lay_out([0], torch.device("cpu"))
    with torch.no_grad():
        expected, _ = compute_logprobs(
            models.policy, batch, find_head(models.policy), temperature=0.5
        )
    assert torch.allclose(measured.logprobs_BT[0, :3], expected, atol=1e-6)
    assert measured.ref_logprobs_BT is not None
    assert torch.equal(measured.ref_logprobs_BT, measured.logprobs_BT)


def really_drawn(models) -> Rollout:
    prompts = [[8, 9, 10], [11, 12], [13], [14, 15, 16, 17]]
    with models.sampled() as policy:
        sampled = sample_responses(
            policy, prompts, range(4), stop_ids=[1], pad_id=PAD, max_new_tokens=9
        )
    return Rollout(prompts, sampled, PAD)


def count_calls(monkeypatch, models) -> list[int]:
    calls: list[int] = []
    compute = models.logprobs

    def counting(batch, **options):
        calls.append(len(batch.actions_N))
        return compute(batch, **options)

    monkeypatch.setattr(models, "logprobs", counting)
    return calls


def test_log_probabilities_known_from_drawing_are_computed_again_only_to_compare(monkeypatch):
    models = make_models()
    drawn = really_drawn(models)
    calls = count_calls(monkeypatch, models)
    found = measure(models, drawn, most_tokens=13, device=torch.device("cpu"))
    assert len(calls) == 1
    assert found.gap[1] == calls[0]
    unknown = Rollout(drawn.prompts, [Sampled(s.tokens, s.ended) for s in drawn.sampled], PAD)
    again = measure(models, unknown, most_tokens=13, device=torch.device("cpu"))
    assert len(calls) > 2
    assert torch.allclose(found.logprobs_BT, again.logprobs_BT, atol=1e-5)


def test_log_probabilities_that_do_not_agree_are_all_computed_again(monkeypatch):
    models = make_models()
    drawn = really_drawn(models)
    expected = measure(models, drawn, most_tokens=13, device=torch.device("cpu"))
    for sampled in drawn.sampled:
        sampled.logprobs[:] = [x - 0.01 for x in sampled.logprobs]
    calls = count_calls(monkeypatch, models)
    found = measure(models, drawn, most_tokens=13, device=torch.device("cpu"))
    assert sum(calls) == sum(len(sampled.tokens) for sampled in drawn.sampled)
    assert torch.allclose(found.logprobs_BT, expected.logprobs_BT, atol=1e-5)
    assert found.gap[0] / found.gap[1] == pytest.approx(0.01, abs=1e-4)
