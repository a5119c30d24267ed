"""The figures of the report, as SVG with real text whose colours are CSS variables.

==========  ============================================================
module      what
==========  ============================================================
pictures    all figures of a result, in their order
canvas      colours, style, axes; how a drawing becomes SVG
lag_time    the autocorrelation and its integral
frequency   the spectrum, the cepstral cut-off, the decimation
methods     every method, block and replica
==========  ============================================================
"""

from gkflux.figures.canvas import Picture
from gkflux.figures.pictures import pictures

__all__ = ["Picture", "pictures"]
