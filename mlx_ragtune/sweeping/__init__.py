"""Searching for training settings: the space, the sampler, successive halving, and the study that workers share."""
