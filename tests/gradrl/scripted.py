"""An actor that follows a script, for tests of the code around it."""

import numpy as np


class Scripted:
    """Acts by a function of the observations; writes down what it was told of the episodes' beginnings."""

    def __init__(self, act):
        self.act = act
        self.episode_start = []

    def begin(self, num_envs):
        self.recurrent_state = np.zeros((num_envs, 0), np.float32)

    def __call__(self, obs, episode_start):
        self.episode_start.append(episode_start.copy())
        return self.act(obs)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
