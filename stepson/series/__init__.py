"""Many files as one: continuations read as one trajectory, runs as an ensemble."""
