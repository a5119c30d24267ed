"""Compile every kernel that the device engine launches for a GPU that need not be there.

    python tests/gkflux/potentials/compile_kernels.py [FEATURES]

Launches are recorded, not made: their arguments say which types and constants the compiler
must know. Prints a line for each: kernel, size of the machine code, registers, spills.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gkflux.potentials import schnet_triton, schnet_triton_dense, schnet_triton_flux
from gkflux.potentials.schnet_gpu import DeviceSchNet
from gkflux.potentials.schnet_gpu_weights import DeviceWeights
from gkflux.potentials.schnet_triton_passes import TritonPasses
from tests.gkflux.potentials.networks import crystal, network

TARGET = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
KERNELS = {"place_edges", "convolve", "backward", "collect", "rates", "flux"} | {
    "dense",
    "readout",
    "totals",
}
LAUNCHES: dict[tuple[Any, ...], Callable[[], Any]] = {}


class Recorder:
    """Stands for a kernel, and remembers what it is launched with."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self._launch

    def _launch(self, *args: Any, num_warps: int = 4, **constants: Any) -> None:
        names = self._kernel.arg_names
        types = {
            name: TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
            for name, value in zip(names, args, strict=False)
        }
        assert {*types, *constants} == set(names), names
        signature = types | dict.fromkeys(constants, "constexpr")
        key = (self._kernel.__name__, *signature.items(), *constants.items())
        # as at a launch: tensors begin at multiples of 16 bytes
        aligned = {
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if str(signature[name]).startswith("*")
        }
        source = ASTSource(self._kernel, signature, constants, aligned)
        LAUNCHES[key] = lambda: triton.compile(
            source, target=TARGET, options={"num_warps": num_warps}
        )


def resources(binary: bytes) -> tuple[str, str]:
    """Registers and spilled bytes, as cuobjdump of the wheel says."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        return "?", "0"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        said = subprocess.run(
            [str(tool), "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack = (re.search(rf"{word}:(\d+)", said) for word in ("REG", "STACK"))
    return (
        registers.group(1) if registers else "?",
        stack.group(1) if stack else "?",
    )


def main() -> None:
    """Record, compile, print."""
    features = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    for module in (schnet_triton, schnet_triton_dense, schnet_triton_flux):
        for name in module.__all__:
            kernel = getattr(module, name)
            if name in KERNELS:
                setattr(module, name, Recorder(kernel))
    systems, _, _ = crystal()
    for readout in ("ssp", "silu"):
        net = network(features=features, interactions=3, readout=readout)
        device = DeviceSchNet(DeviceWeights.of(net, "cpu"), systems, None, TritonPasses)
        device.positions.copy_(torch.tensor(systems[0].positions))
        device.build()
        device.evaluate()
        device.flux()
        device.measure_kinetic()
    for key, compile_it in LAUNCHES.items():
        compiled = compile_it()
        assert ".target sm_90" in compiled.asm["ptx"]
        registers, spills = resources(compiled.asm["cubin"])
        size = len(compiled.asm["cubin"])
        line = f"{key[0]} {size} bytes, registers {registers}, spills {spills}"
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
