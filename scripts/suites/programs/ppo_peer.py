"""A whole script of stable-baselines3, PPO on CartPole, called with STEPS EPISODES: a row of the suite."""

import importlib
import sys


def main(steps: int, episodes: int) -> None:
    """Train, save, evaluate; the hyperparameters that decide how much is computed are those of the suite."""
    import torch

    sb3 = importlib.import_module("stable_baselines3")
    env_util = importlib.import_module("stable_baselines3.common.env_util")
    evaluation = importlib.import_module("stable_baselines3.common.evaluation")
    torch.set_num_threads(1)
    envs = env_util.make_vec_env("CartPole-v1", n_envs=8, seed=1)
    model = sb3.PPO("MlpPolicy", envs, n_steps=128, batch_size=256, n_epochs=4, device="cpu", seed=1)
    model.learn(total_timesteps=steps)
    model.save("policy")
    eval_envs = env_util.make_vec_env("CartPole-v1", n_envs=20, seed=10_001)
    mean, deviation = evaluation.evaluate_policy(
        model, eval_envs, n_eval_episodes=episodes, deterministic=True
    )
    print(f"mean return {mean:.0f} ± {deviation:.0f} over {episodes} episodes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
