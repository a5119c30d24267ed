"""The heat flux of stored frames, computed again: `stepson flux`.

=============  ==========================================================================
module         what
=============  ==========================================================================
flux           `recompute_flux`: one trajectory in, a ``.son`` with its heat flux out
files          `recompute_files`: many of them
source         the stored frames: what they must have, and how they are read
model          which potential, and how every process makes the same one
spacing        whether the frames are close enough in time
frames         what is computed, frame by frame
target         the file that comes out: begun, gone on with, or refused
=============  ==========================================================================
"""

from gkflux.recompute.files import recompute_files
from gkflux.recompute.flux import Recomputed, recompute_flux
from gkflux.recompute.model import Model, find_model

__all__ = ["Model", "Recomputed", "find_model", "recompute_files", "recompute_flux"]
