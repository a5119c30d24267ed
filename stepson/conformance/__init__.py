"""Conformance: runs any implementation of `.son` over the vectors of ``spec/vectors``.

::

    python -m stepson.conformance [--batch] CMD...    tests an implementation
    python -m stepson.conformance --read FILE         what stepson itself reads, as JSON

What an implementation has to print is in ``spec/vectors/README.md``.

`vectors` finds the files, `process` asks an implementation, `compare` says what differs,
`reading` is stepson's own side. Nothing here is imported by the library.
"""
