"""Potentials: per-atom energies of edge vectors, and the engines that run them."""
