"""Inner loops over features, written as vector instructions for numba's compiler.

A compiler that finds these loops in Python must first prove at run time, edge by edge, that
the arrays do not overlap, and chooses the order of sums itself. Here both are settled:
loops run over vectors of `LANES` features (all widths are multiples of it), every product
is fused with its sum, and the order of every sum is what is written.

=================  =======================================================================
function           computes
=================  =======================================================================
`multiply_add`     out += x @ w for `BLOCK` rows, outputs in registers
`add_message`      out += y (a0 V + b0 D + a1 V' + b1 D'), one edge of a convolution
`dot_message`      sum of x y (a0 V + b0 D + a1 V' + b1 D'), one edge of a gradient
=================  =======================================================================

V, D, V', D' are four consecutive rows of a filter table (`schnet_tables`). Arrays are
float32, in C order, handed over whole, with the number of the row that is meant.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["BLOCK", "LANES", "add_message", "dot_message", "multiply_add"]

BLOCK = 4
LANES = 16

# without types
_tools: Any = cgutils

FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
INDEX = ir.IntType(64)


def _index(value: int) -> Any:
    return ir.Constant(INDEX, value)


def _row(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> tuple[Any, Any]:
    """Address of a row, and the length of rows; a table counts by its last axis."""
    struct = context.make_array(kind)(context, builder, array)
    shape = _tools.unpack_tuple(builder, struct.shape, kind.ndim)
    start = builder.mul(row, shape[-1])
    return builder.gep(struct.data, [start]), shape[-1]


def _load(builder: Any, row: Any, place: Any) -> Any:
    address = builder.bitcast(builder.gep(row, [place]), VECTOR.as_pointer())
    return builder.load(address, align=4)


def _store(builder: Any, value: Any, row: Any, place: Any) -> None:
    address = builder.bitcast(builder.gep(row, [place]), VECTOR.as_pointer())
    builder.store(value, address, align=4)


def _all_lanes(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, _index(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, zeros)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x y + z, rounded once; llvmlite's own method knows single numbers only."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    name = f"llvm.fma.v{LANES}f32"
    function = _tools.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [x, y, z])


def _sum_lanes(builder: Any, vector: Any) -> Any:
    """Sum of the lanes: halves onto each other, until one is left."""
    width = LANES
    while width > 1:
        width //= 2
        parts = []
        for first in (0, width):
            places = [ir.Constant(ir.IntType(32), first + k) for k in range(width)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), width), places)
            parts.append(builder.shuffle_vector(vector, vector, mask))
        vector = builder.fadd(*parts)
    return builder.extract_element(vector, _index(0))


def _filter(builder: Any, table: Any, width: Any, basis: Sequence[Any], place: Any) -> Any:
    """W = a0 V + b0 D + a1 V' + b1 D' of one vector of features."""
    w = None
    for k, factor in enumerate(basis):
        at = builder.add(place, builder.mul(width, _index(k)))
        node = _load(builder, table, at)
        w = builder.fmul(factor, node) if w is None else _fma(builder, factor, node, w)
    return w


def _add_message(
    context: Any,
    out: Any,
    k: Any,
    y: Any,
    o: Any,
    table: Any,
    i: Any,
    a0: Any,
    b0: Any,
    a1: Any,
    b1: Any,
) -> Any:
    """Add to row k of out the product of row o of y and the filter of interval i."""
    signature = types.void(
        out, types.intp, y, types.intp, table, types.intp, *[types.float32] * 4
    )

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        target, width = _row(context, builder, kinds[0], args[0], args[1])
        source, _ = _row(context, builder, kinds[2], args[2], args[3])
        node = builder.mul(args[5], _index(2))
        nodes, _ = _row(context, builder, kinds[4], args[4], node)
        basis = [_all_lanes(builder, number) for number in args[6:]]
        count = builder.udiv(width, _index(LANES))
        with _tools.for_range(builder, count) as loop:
            place = builder.mul(loop.index, _index(LANES))
            w = _filter(builder, nodes, width, basis, place)
            before = _load(builder, target, place)
            after = _fma(builder, _load(builder, source, place), w, before)
            _store(builder, after, target, place)
        return context.get_dummy_value()

    return signature, code


def _dot_message(
    context: Any,
    x: Any,
    k: Any,
    y: Any,
    o: Any,
    table: Any,
    i: Any,
    a0: Any,
    b0: Any,
    a1: Any,
    b1: Any,
) -> Any:
    """Sum over features of row k of x, row o of y and the filter of interval i."""
    signature = types.float32(
        x, types.intp, y, types.intp, table, types.intp, *[types.float32] * 4
    )

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        left, width = _row(context, builder, kinds[0], args[0], args[1])
        right, _ = _row(context, builder, kinds[2], args[2], args[3])
        node = builder.mul(args[5], _index(2))
        nodes, _ = _row(context, builder, kinds[4], args[4], node)
        basis = [_all_lanes(builder, number) for number in args[6:]]
        total = _tools.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES))
        count = builder.udiv(width, _index(LANES))
        with _tools.for_range(builder, count) as loop:
            place = builder.mul(loop.index, _index(LANES))
            w = _filter(builder, nodes, width, basis, place)
            xy = builder.fmul(_load(builder, left, place), _load(builder, right, place))
            builder.store(_fma(builder, xy, w, builder.load(total)), total)
        return _sum_lanes(builder, builder.load(total))

    return signature, code


def _multiply_add(context: Any, x: Any, k: Any, w: Any, out: Any, j: Any) -> Any:
    """Add rows k .. k + BLOCK of x times w to rows j .. of out."""
    signature = types.void(x, types.intp, w, out, types.intp)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        rows, depth = _row(context, builder, kinds[0], args[0], args[1])
        weights, width = _row(context, builder, kinds[2], args[2], _index(0))
        target, _ = _row(context, builder, kinds[3], args[3], args[4])
        sizes = (rows, weights, target, depth, width)
        pairs = builder.udiv(width, _index(2 * LANES))
        with _tools.for_range(builder, pairs) as loop:
            column = builder.mul(loop.index, _index(2 * LANES))
            _tile(builder, *sizes, column, 2)
        done = builder.mul(pairs, _index(2 * LANES))
        with builder.if_then(builder.icmp_unsigned("<", done, width)):
            _tile(builder, *sizes, done, 1)
        return context.get_dummy_value()

    return signature, code


def _tile(
    builder: Any,
    rows: Any,
    weights: Any,
    target: Any,
    depth: Any,
    width: Any,
    column: Any,
    vectors: int,
) -> None:
    """`BLOCK` rows by some vectors of columns: sums stay in registers over the depth."""
    places, sums = [], []
    for r in range(BLOCK):
        for v in range(vectors):
            start = builder.add(builder.mul(width, _index(r)), column)
            places.append(builder.add(start, _index(v * LANES)))
            before = _load(builder, target, places[-1])
            sums.append(_tools.alloca_once_value(builder, before))
    with _tools.for_range(builder, depth) as loop:
        start = builder.add(builder.mul(loop.index, width), column)
        w = [
            _load(builder, weights, builder.add(start, _index(v * LANES)))
            for v in range(vectors)
        ]
        for r in range(BLOCK):
            at = builder.add(builder.mul(depth, _index(r)), loop.index)
            address = builder.gep(rows, [at])
            x = _all_lanes(builder, builder.load(address))
            for v in range(vectors):
                total = sums[r * vectors + v]
                value = _fma(builder, x, w[v], builder.load(total))
                builder.store(value, total)
    for place, total in zip(places, sums, strict=True):
        _store(builder, builder.load(total), target, place)


# what numba calls has no context argument, and the types of arrays
add_message: Any = intrinsic(_add_message)
dot_message: Any = intrinsic(_dot_message)
multiply_add: Any = intrinsic(_multiply_add)
