"""Random numbers that depend on the seed and the place alone, so that no generator's state is kept."""

import hashlib

import torch


def seed_of(seed: int, step: int, start: int) -> int:
    """A 63-bit seed from (seed, step, first pair of the microbatch)."""
    digest = hashlib.blake2b(f"{seed}:{step}:{start}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def device_seed(device: torch.device, seed: int) -> None:
    """Seed the generator that dropout draws from.

    `torch.manual_seed` would also seed GPUs that are not there, which costs more than a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
