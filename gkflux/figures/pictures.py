"""All figures of a result, in their order."""

from typing import TYPE_CHECKING

import matplotlib as mpl

from gkflux.figures.canvas import STYLE, Picture
from gkflux.figures.frequency import cutoffs, decimations, spectrum
from gkflux.figures.lag_time import autocorrelation, cumulative
from gkflux.figures.methods import scatter

if TYPE_CHECKING:
    from gkflux.green_kubo import GreenKubo

__all__ = ["pictures"]


def pictures(result: "GreenKubo") -> list[Picture]:
    """Draw every figure that the data allow."""
    makers = (cumulative, autocorrelation, spectrum, cutoffs, decimations, scatter)
    with mpl.rc_context(STYLE):
        return [picture for maker in makers if (picture := maker(result)) is not None]
