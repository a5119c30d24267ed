"""Molecular dynamics: integrators, replicas in one batch, restart bit for bit.

``run.run`` performs a whole configuration file; ``MolecularDynamics`` is the same engine
for scripts. A run has one rule: the *loop* decides when to commit, and every commit carries
a checkpoint, so that a killed run goes on as if nothing had happened (``recovery.py``).
"""
