"""Seeds of any size and sign as the unsigned 64-bit numbers that MLX and NumPy accept."""

_RANGE = 2**64


def seed64(seed: int) -> int:
    """``seed`` modulo 2^64: unchanged for seeds that MLX accepts."""
    return seed % _RANGE
