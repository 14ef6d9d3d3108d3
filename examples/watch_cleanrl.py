"""PPO in a single file, in the manner of CleanRL, watched by the plain call and asked the rules about agents.

python examples/watch_cleanrl.py && gradsight-report run=runs/watch_cleanrl/mistaken
"""

import argparse
from pathlib import Path

import gymnasium
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn.functional import mse_loss

from core import Watch
from core.diagnosis import Finding
from gradrl.watch.agents import agent_rules

STEPS, EPOCHS, BATCH, GAMMA, LAMBDA, CLIP = 256, 4, 64, 0.99, 0.95, 0.2


def head(outputs: int) -> nn.Sequential:
    """A small network for four observations."""
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


def train(directory: Path, *, lr: float, updates: int = 16) -> list[Finding]:
    """Learn to balance the pole; returns what was found."""
    torch.manual_seed(0)
    env = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))
    agent = nn.ModuleDict({"actor": head(2), "critic": head(1)})
    optimizer = torch.optim.Adam(agent.parameters(), lr=lr, eps=1e-5)
    done, settings = 0.0, {"gamma": GAMMA, "num_epochs": EPOCHS, "entropy_coef": 0.0}
    rules = agent_rules(env.action_space, settings, progress=lambda: done)
    obs = torch.as_tensor(env.reset(seed=0)[0])
    with Watch(agent, optimizer, directory=directory, rules=rules) as watch:
        for update in range(updates):
            done = update / updates
            rows = []
            for _ in range(STEPS):
                with torch.no_grad():
                    policy, value = Categorical(logits=agent["actor"](obs)), agent["critic"](obs)[0]
                action = policy.sample()
                after, reward, terminated, truncated, info = env.step(action.item())
                rows.append((obs, action, policy.log_prob(action), value, float(reward), float(terminated)))
                if terminated or truncated:
                    watch.log(**{"episode/return": info["episode"]["r"]})
                    after = env.reset()[0]
                obs = torch.as_tensor(after)
            seen, actions, old, values = (torch.stack(column) for column in list(zip(*rows, strict=True))[:4])
            advantages, following, gae = torch.zeros(STEPS), agent["critic"](obs)[0].detach(), 0.0
            for step in reversed(range(STEPS)):
                *_, value, reward, terminated = rows[step]
                alive = 1.0 - terminated
                gae = reward + GAMMA * alive * following - value + GAMMA * LAMBDA * alive * gae
                advantages[step], following = gae, value
            returns = advantages + values
            watch.log(**{"policy/advantage_std": advantages.std()})
            for batch in torch.cat([torch.randperm(STEPS) for _ in range(EPOCHS)]).split(BATCH):
                policy = Categorical(logits=agent["actor"](seen[batch]))
                ratio = (log_ratio := policy.log_prob(actions[batch]) - old[batch]).exp()
                scaled = (advantages[batch] - advantages[batch].mean()) / (advantages[batch].std() + 1e-8)
                surrogate = torch.min(ratio * scaled, ratio.clamp(1 - CLIP, 1 + CLIP) * scaled).mean()
                loss = 0.5 * mse_loss(agent["critic"](seen[batch])[:, 0], returns[batch]) - surrogate
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
                kl, entropy = (ratio - 1 - log_ratio).detach().mean(), policy.entropy().detach().mean()
                watch.log(**{"policy/approx_kl": kl, "policy/entropy": entropy})
    return watch.findings


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, lr in (("mistaken", 0.1), ("mended", 3e-4)):
        found = train(Path("runs/watch_cleanrl", name), lr=lr)
        print(f"{name}: {', '.join(finding.name for finding in found) or 'no findings'}\n")
