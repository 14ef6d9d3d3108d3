"""Healthy loops of agents and games, plain ones and those of other libraries where they are installed."""

from importlib.util import find_spec

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional

from core import Watch
from core.diagnosis import Finding

from .data import digits, flat
from .healthy import Healthy
from .loops import adam, batches, mlp


def game(directory: str | None) -> list[Finding]:
    """A small GAN of two normal clouds, logistic losses."""
    players = {"generator": mlp(4, 32, 32, 2), "discriminator": mlp(2, 32, 32, 1)}
    chosen = {
        name: torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999)) for name, net in players.items()
    }
    loss = nn.BCEWithLogitsLoss()
    make, judge = players.values()
    with Watch(players, chosen, loss=loss, directory=directory) as watch:
        for _ in range(1500):
            real = torch.randn(64, 2) * 0.3 + torch.randint(2, (64, 1)) * 2 - 1
            fake = make(torch.randn(64, 4))
            chosen["discriminator"].zero_grad()
            (loss(judge(real), torch.ones(64, 1)) + loss(judge(fake.detach()), torch.zeros(64, 1))).backward()
            chosen["discriminator"].step()
            chosen["generator"].zero_grad()
            loss(judge(fake), torch.ones(64, 1)).backward()
            chosen["generator"].step()
    return watch.findings


def critic(directory: str | None) -> list[Finding]:
    """A Wasserstein GAN with a gradient penalty; its losses are functions of its own."""
    make, judge = mlp(4, 32, 2), mlp(2, 64, 1)
    chosen = {"make": adam(make, 1e-3), "judge": adam(judge, 1e-3)}
    with Watch({"make": make, "judge": judge}, chosen, directory=directory) as watch:
        for turn in range(1500):
            real = torch.randn(64, 2) * 0.3 + torch.randint(2, (64, 1)) * 2 - 1
            fake = make(torch.randn(64, 4))
            between = (real + torch.rand(64, 1) * (fake - real)).detach().requires_grad_()
            (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
            penalty = 10 * (slope.norm(dim=1) - 1).square().mean()
            chosen["judge"].zero_grad()
            (judge(fake.detach()).mean() - judge(real).mean() + penalty).backward()
            chosen["judge"].step()
            if turn % 3 == 0:
                chosen["make"].zero_grad()
                (-judge(make(torch.randn(64, 4))).mean()).backward()
                chosen["make"].step()
    return watch.findings


def policy_gradient(directory: str | None) -> list[Finding]:
    """REINFORCE on CartPole."""
    env, policy = gym.make("CartPole-v1"), mlp(4, 32, 2, activation=nn.Tanh)
    optimizer = adam(policy, 1e-2)
    with Watch(policy, optimizer, directory=directory) as watch:
        for episode in range(120):
            obs, _ = env.reset(seed=int(torch.randint(2**31 - 1, ())) if episode == 0 else None)
            seen, taken, rewards, over = [], [], [], False
            while not over:
                row = torch.as_tensor(obs, dtype=torch.float32)
                action = int(torch.multinomial(policy(row).softmax(0).detach(), 1))
                obs, reward, terminated, truncated, _ = env.step(action)
                seen.append(row)
                taken.append(action)
                rewards.append(float(reward))
                over = terminated or truncated
            returns = _returns(rewards, 0.99)
            log_prob = policy(torch.stack(seen)).log_softmax(1)[torch.arange(len(taken)), torch.tensor(taken)]
            loss = -(log_prob * (returns - returns.mean()) / (returns.std() + 1e-6)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss, episode_return=sum(rewards))
    return watch.findings


def _returns(rewards: list[float], gamma: float) -> Tensor:
    found = [0.0]
    for reward in reversed(rewards):
        found.append(reward + gamma * found[-1])
    return torch.tensor(found[:0:-1])


def value_learning(directory: str | None) -> list[Finding]:
    """DQN on CartPole, a Huber loss on targets of another network."""
    env, network, target = gym.make("CartPole-v1"), mlp(4, 64, 2), mlp(4, 64, 2)
    loss, optimizer = nn.SmoothL1Loss(), adam(network, 1e-3)
    memory: list[tuple[Tensor, int, float, Tensor, bool]] = []
    obs, _ = env.reset(seed=int(torch.randint(2**31 - 1, ())))
    with Watch(network, optimizer, loss=loss, directory=directory) as watch:
        for step in range(2500):
            if step % 200 == 0:
                target.load_state_dict(network.state_dict())
            row = torch.as_tensor(obs, dtype=torch.float32)
            explore = torch.rand(()).item() < max(0.05, 1 - step / 1500)
            action = int(torch.randint(2, ())) if explore else int(network(row).argmax())
            obs, reward, terminated, truncated, _ = env.step(action)
            memory.append((row, action, float(reward), torch.as_tensor(obs, dtype=torch.float32), terminated))
            if terminated or truncated:
                obs, _ = env.reset()
            if step < 200:
                continue
            chosen = [memory[i] for i in torch.randint(len(memory), (64,)).tolist()]
            before, after = (torch.stack([entry[i] for entry in chosen]) for i in (0, 3))
            actions, rewards, ends = (torch.tensor([entry[i] for entry in chosen]) for i in (1, 2, 4))
            with torch.no_grad():
                wanted = rewards + 0.99 * target(after).amax(1) * ~ends
            optimizer.zero_grad()
            loss(network(before)[torch.arange(64), actions], wanted).backward()
            optimizer.step()
    return watch.findings


def stable_baselines(directory: str | None) -> list[Finding]:
    """PPO of stable-baselines3 on CartPole."""
    from stable_baselines3 import PPO

    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=512, seed=int(torch.randint(2**31 - 1, ())), device="cpu")
    with Watch(agent.policy, agent.policy.optimizer, directory=directory) as watch:
        agent.learn(6000)
    return watch.findings


def lightning(directory: str | None) -> list[Finding]:
    """A classifier trained by Lightning."""
    import lightning as pl
    from torch.utils.data import DataLoader, TensorDataset

    loss = nn.CrossEntropyLoss()

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = mlp(64, 48, 10)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer

    model = Classifier()
    optimizer = adam(model.network, 2e-3)
    trainer = pl.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        trainer.fit(model, DataLoader(TensorDataset(*flat(digits())), 32, shuffle=True))
    return watch.findings


def triplets(directory: str | None) -> list[Finding]:
    """Images of one digit near each other, of two apart."""
    x, y = flat(digits())
    model, loss = mlp(64, 48, 8), nn.TripletMarginLoss()
    optimizer = adam(model)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(10):
            for rows, labels in batches(x, y, 64):
                same = labels[:, None] == labels
                alike = torch.multinomial(same.float(), 1)[:, 0]
                other = torch.multinomial((~same).float() + 1e-9, 1)[:, 0]
                codes = functional.normalize(model(rows), dim=1)
                loss(codes, codes[alike], codes[other]).backward()
                optimizer.step()
                optimizer.zero_grad()
    return watch.findings


LOOPS: dict[str, Healthy] = {
    run.__name__: run for run in (game, critic, policy_gradient, value_learning, triplets)
} | {
    run.__name__: run
    for run, library in ((stable_baselines, "stable_baselines3"), (lightning, "lightning"))
    if find_spec(library)
}
