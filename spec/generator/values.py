"""Numbers for the vectors: the same on every machine and with every version of numpy."""

import numpy as np

MASK = 2**64 - 1


def bits(count, seed=1):
    """`count` pseudo-random integers of 64 bits (splitmix64)."""
    found = []
    for i in range(1, count + 1):
        z = (seed * 0x9E3779B97F4A7C15 + i * 0xD1B54A32D192ED03) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(z ^ (z >> 31))
    return np.array(found, np.uint64)


def noise(shape, dtype="<f8", seed=1):
    """Values in [-1, 1) with 20 significant bits, or any integers of an integer dtype."""
    kind, words = np.dtype(dtype).kind, bits(int(np.prod(shape)), seed)
    if kind == "f":
        values = (words >> np.uint64(43)).astype("<f8") / 2.0**20 - 1.0
        return values.reshape(shape).astype(dtype)
    if kind == "b":
        return (words >> np.uint64(63)).astype(bool).reshape(shape)
    return words.astype(dtype).reshape(shape)


def little(name):
    """A dtype by its name, as it is stored."""
    return np.dtype(name).newbyteorder("<")


def noise_of(field, frames, n_atoms=2, seed=1):
    """Noise of the dtype and shape of a field."""
    shape = (n_atoms if n == "atom" else n for n in field["shape"])
    return noise((frames, *shape), little(field["dtype"]), seed)


def motion(frames, shape, dtype="<f8", seed=1, start=0):
    """Something that moves smoothly: a parabola for each column, with a little noise."""
    t = np.arange(start, start + frames, dtype="<f8").reshape(-1, *(1 for _ in shape))
    place, speed, bend = (noise(shape, seed=seed + i) for i in range(3))
    path = 5.0 * place + t * (speed / 16.0 + t * (bend / 1024.0))
    return (path + noise((frames, *shape), seed=seed + 3 + start) / 4096.0).astype(dtype)


def deep(levels):
    """A map in a map in a map."""
    found = {"end": 1}
    for _ in range(levels):
        found = {"in": found}
    return found
