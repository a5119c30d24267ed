"""Molecular dynamics with exact heat fluxes, and Green-Kubo reduction with honest errors."""
