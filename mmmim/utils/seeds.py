"""Seeds of a step."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Seed Python, numpy and torch (all devices) for a step: the same numbers whatever was drawn before.

    Args:
        seed: Seed of the run.
        rank: Number of the process, from 0.
        iteration: Number of the iteration, from 0.
    """
    seeds = np.random.SeedSequence([seed, rank, iteration]).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])  # noqa: NPY002
    torch.manual_seed(seeds[2])
