"""Crashes by kind and number: see ``benchmarks/crashes.py``.

``model`` is what a file must hold, ``disk`` what fails, ``life`` what writers do and what
must be true afterwards; ``cases``, ``flips``, ``kills`` and ``readers`` are the kinds;
``pool`` runs them.
"""
