r"""SchNet as plain torch: the network that is trained, and the oracle of the fast engine.

The form is SchNetPack's, which all usable checkpoints follow (K. T. Schütt et al.,
J. Chem. Phys. 148, 241722 (2018)):

=================  =======================================================================
symbol             meaning, name here
=================  =======================================================================
x0                 ``embedding(Z)``, shape ``(n, F)``
e_k(r)             Gaussians, ``exp(-(r - mu_k)^2 / 2 w^2)``, ``(E, G)``
f_c(r)             ``cutoff_function``: cosine, (1 + cos(pi r / r_c)) / 2 below r_c; or
                   hard, 1 below r_c, of old models, which makes energies jump
W(r)               ``filters``: f_c [A2 ssp(A1 e + b1) + b2], ``(E, filters)``
y = B x            ``in2f``, no bias
m_i                sum over the edges of centre i of y_o W, ``(n, filters)``
x += D2 ssp(D1 m)  ``f2out``, ``dense``, both with a bias
U_i                readout F -> F/2 -> 1, times ``stddev``, plus ``mean`` and atomref(Z)
=================  =======================================================================

ssp is softplus - ln 2. The activation of the readout is ssp in SchNetPack 1 and silu in
SchNetPack 2; the wrong one changes forces by a fifth.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log, pi
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from gkflux.errors import FluxError
from gkflux.potentials.base import Gather, gather

__all__ = ["Architecture", "SchNet", "ssp"]

LN2 = log(2.0)
SMALLEST = {
    "features": 1,
    "filters": 1,
    "interactions": 1,
    "gaussians": 2,
    "readout_features": 1,
    "max_z": 2,
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a SchNet; everything else of it is numbers.

    ``features`` F, ``filters`` (None: F), ``interactions`` T, ``gaussians`` G, ``cutoff``
    r_c in Å, ``readout`` activation, ``readout_features`` (None: F / 2),
    ``cutoff_function``, and ``max_z``, rows of the embedding.

    Raises:
        FluxError: sizes that are no whole numbers, or too small; unknown words.
    """

    features: int = 128
    filters: int | None = None
    interactions: int = 2
    gaussians: int = 25
    cutoff: float = 5.0
    readout: Literal["ssp", "silu"] = "ssp"
    readout_features: int | None = None
    cutoff_function: Literal["cosine", "hard"] = "cosine"
    max_z: int = 100

    def __post_init__(self) -> None:
        for name, known in (
            ("readout", ("ssp", "silu")),
            ("cutoff_function", ("cosine", "hard")),
        ):
            if getattr(self, name) not in known:
                raise FluxError(f"{name} is not one of {known}")
        for name, least in SMALLEST.items():
            value = getattr(self, name)
            optional = value is None and name in ("filters", "readout_features")
            if not optional and (type(value) is not int or value < least):
                raise FluxError(f"{name} is not a whole number from {least} on")
        if type(self.cutoff) not in (int, float) or not 0 < self.cutoff < 1e3:
            raise FluxError("cutoff is not a length in Å, less than 1000")

    @property
    def n_filters(self) -> int:
        """Filters, which are as many as the features unless said otherwise."""
        return self.features if self.filters is None else self.filters

    @property
    def n_readout(self) -> int:
        """Width of the hidden layer of the readout."""
        half = max(self.features // 2, 1)
        return half if self.readout_features is None else self.readout_features

    def to_map(self) -> dict[str, Any]:
        """Return plain values, for a file header."""
        return asdict(self)


def ssp(x: Tensor) -> Tensor:
    """Shifted softplus, softplus(x) - ln 2."""
    return softplus(x) - LN2


class Filter(nn.Module):
    """W(r): Gaussians, two dense layers, and the cutoff function."""

    centres: Tensor
    width: Tensor

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        g, f = shape.gaussians, shape.n_filters
        self.cutoff, self.hard = shape.cutoff, shape.cutoff_function == "hard"
        self.register_buffer("centres", torch.linspace(0.0, shape.cutoff, g))
        self.register_buffer("width", torch.tensor(shape.cutoff / (g - 1)))
        self.first = nn.Linear(g, f)
        self.second = nn.Linear(f, f)

    def forward(self, r: Tensor) -> Tensor:
        """Filters at distances r, shape ``(E,)``, Å: shape ``(E, filters)``."""
        e = torch.exp(-0.5 * ((r[:, None] - self.centres) / self.width) ** 2)
        w = self.second(ssp(self.first(e)))
        return torch.as_tensor(w * self.envelope(r)[:, None])

    def envelope(self, r: Tensor) -> Tensor:
        """f_c(r), shape ``(E,)``; exactly 0 from the cutoff on."""
        inside = (r < self.cutoff).to(r.dtype)
        if self.hard:
            return inside
        return 0.5 * (1.0 + torch.cos(pi / self.cutoff * r)) * inside


class Interaction(nn.Module):
    """One round of messages: x -> x + D2 ssp(D1 m + d1) + d2."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        f, w = shape.features, shape.n_filters
        self.filter = Filter(shape)
        self.in2f = nn.Linear(f, w, bias=False)
        self.f2out = nn.Linear(w, f)
        self.dense = nn.Linear(f, f)

    def forward(
        self, x: Tensor, r: Tensor, centre: Tensor, other: Tensor, gather: Gather
    ) -> Tensor:
        """Features after this layer, shape ``(n, F)``."""
        messages = gather(self.in2f(x), other) * self.filter(r)
        # scatter_add, not index_add: the latter is wrong under a compiled jvp (torch 2.13)
        m = torch.zeros(len(x), messages.shape[1], dtype=x.dtype, device=x.device)
        m = m.scatter_add(0, centre[:, None].expand_as(messages), messages)
        return x + torch.as_tensor(self.dense(ssp(self.f2out(m))))


class SchNet(nn.Module):
    """The network. Parameters are those of a fresh, seeded initialisation until loaded.

    Args:
        shape: its `Architecture`.
        mean: eV an atom. stddev: eV, factor of the network's output.
        atomref: eV, shape ``(max_z,)``, added by species; None for zeros.
    """

    mean: Tensor
    stddev: Tensor
    atomref: Tensor

    def __init__(
        self,
        shape: Architecture,
        *,
        mean: float = 0.0,
        stddev: float = 1.0,
        atomref: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        f, h = shape.features, shape.n_readout
        self.embedding = nn.Embedding(shape.max_z, f, padding_idx=0)
        self.interactions = nn.ModuleList(
            Interaction(shape) for _ in range(shape.interactions)
        )
        self.hidden = nn.Linear(f, h)
        self.out = nn.Linear(h, 1)
        zeros = torch.zeros(shape.max_z, dtype=torch.float64)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("stddev", torch.tensor(stddev, dtype=torch.float64))
        self.register_buffer("atomref", zeros if atomref is None else atomref.double())
        self._initialise()

    def _initialise(self) -> None:
        """Xavier weights and zero biases, as SchNetPack begins."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``to`` and ``float`` do: mean, stddev and atomref stay float64."""
        constants = {name: getattr(self, name) for name in ("mean", "stddev", "atomref")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in constants.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self

    def activation(self, x: Tensor) -> Tensor:
        """Activation of the readout."""
        return ssp(x) if self.shape.readout == "ssp" else silu(x)

    def references(self, numbers: Tensor) -> Tensor:
        """u_s, shape ``(n,)``, eV, float64: mean and atomref."""
        return self.mean.double() + self.atomref.double()[numbers]

    def forward(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Gather = gather,
    ) -> Tensor:
        """Per-atom energies, shape ``(n,)``, eV, float64, with mean and atomrefs.

        Args:
            numbers: ``(n,)``, int64.
            d: edge vectors, ``(E, 3)``, Å, of the dtype of the parameters.
            centre: ``(E,)``, int64.
            other: ``(E,)``, int64.
            n_atoms: n.
            gather: takes features along edges.
        """
        r = torch.linalg.vector_norm(d, dim=1)
        x = self.embedding(numbers)
        for interaction in self.interactions:
            x = interaction(x, r, centre, other, gather)
        u = self.out(self.activation(self.hidden(x)))[:, 0]
        # the scale and the shift in float64: atomrefs may be thousands of eV
        return torch.as_tensor(u.double() * self.stddev.double() + self.references(numbers))
