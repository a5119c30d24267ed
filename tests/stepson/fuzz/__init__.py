"""Files that lie behind right checksums: see ``benchmarks/fuzz.py``.

``container`` takes a file apart and puts it together again with checksums that fit,
``mutate`` changes what is in between, ``attack`` uses the result in every way.
"""
