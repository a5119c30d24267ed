"""Units: Å, fs, eV, amu, K inside; everything else is converted at the border.

Constants are CODATA 2018 (E. Tiesinga et al., Rev. Mod. Phys. 93, 025010 (2021)); those of
the SI definition are exact.

=====================  ==================================================================
name                   meaning
=====================  ==================================================================
BOLTZMANN              eV/K, exact
ELEMENTARY_CHARGE      C, exact: 1 eV in J
ATOMIC_MASS            amu in kg
KINETIC                amu Å²/fs² in eV: E_kin = KINETIC * m v² / 2
ASE_TIME               one ASE time unit, Å sqrt(amu/eV), in fs: v[Å/fs] = v[ASE] / ASE_TIME
CONDUCTIVITY           eV/(Å fs K) in W/(m K), exact
GPA                    eV/Å³ in GPa, exact
=====================  ==================================================================
"""

from math import sqrt

__all__ = [
    "ASE_TIME",
    "ATOMIC_MASS",
    "BOLTZMANN",
    "CONDUCTIVITY",
    "ELEMENTARY_CHARGE",
    "GPA",
    "KINETIC",
]

ELEMENTARY_CHARGE = 1.602176634e-19
BOLTZMANN = 1.380649e-23 / ELEMENTARY_CHARGE
ATOMIC_MASS = 1.66053906660e-27
KINETIC = ATOMIC_MASS * 1e10 / ELEMENTARY_CHARGE
ASE_TIME = sqrt(KINETIC)
CONDUCTIVITY = ELEMENTARY_CHARGE * 1e25
GPA = ELEMENTARY_CHARGE * 1e21
