"""Writes the conformance vectors: a second description of the format, without the library.

`codecs` turns values into chunks as ``spec/registry.md`` says, `stream` and `file` put
records together as ``spec/son-1.md`` says, `expect` keeps account of what a reader must
find, `vector` writes a case to its folder. The modules ``cases_*`` hold the cases.
"""
