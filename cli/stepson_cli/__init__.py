"""The `stepson` command."""
