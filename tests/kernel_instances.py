"""The names, as in the source, of all CUDA kernel instances that calls can request."""

from itertools import product

from elasticnd import _dtypes
from elasticnd._engines.cuda import compile as texts
from elasticnd._limits import MAX_ORDER

AXES = (1, 2, 3, 0)  # 0 stands for four or more axes
NARROW = tuple(code for name, code in _dtypes.CODES.items() if _dtypes.compute_dtype(name, 0, 1) == "float32")
WIDE = tuple(code for code in _dtypes.CODES.values() if code not in NARROW)
FLOATS = tuple(_dtypes.CODES[name] for name in _dtypes.FLOATS)
ARITHMETIC = {"float": _dtypes.CODES["float32"], "double": _dtypes.CODES["float64"]}
SIZES = ("unsigned char", "unsigned short", "unsigned int", "unsigned long long")
BOOLEANS = ("false", "true")


def _types():
    """Yield each element type with its compute type and the numbers of axes for which there are kernels."""
    for code in (*NARROW, *WIDE):
        for number in ("float",) if code in NARROW else ("double",):
            yield code, number, AXES
        if code in NARROW:  # high orders of many axes are computed in double precision
            yield code, "double", (0,)


def _voxel_kernels():
    for code, number, own_axes in _types():
        own = ARITHMETIC[number]
        for order, axes in product(range(MAX_ORDER + 1), own_axes):
            if order > 1:
                yield f"sample<{own}, {code}, {number}, {order}, {axes}, false>"
            if order > 0:
                yield f"sample<{code}, {code}, {number}, {order}, {axes}, false>"
            if code not in FLOATS:
                continue
            sources = {code, own} if order > 1 else {code}
            for source in sources:
                yield f"sample<{source}, {own}, {number}, {order}, {axes}, true>"
                for gradient in {code, own}:
                    if order > 0:
                        for derived in BOOLEANS:
                            yield f"splat_transform<{source}, {gradient}, {number}, {order}, {axes}, {derived}>"
            for gradient, derived, fixed in product({code, own}, BOOLEANS, BOOLEANS):
                yield f"splat_image<{gradient}, {number}, {order}, {axes}, {derived}, {fixed}>"
    yield from (f"copy<{size}, {axes}>" for size, axes in product(SIZES, AXES))
    yield from (f"elect<{code}, {axes}>" for code, axes in product((*NARROW, *WIDE), AXES))
    for axes in AXES:
        yield f"displace<{axes}>"
        yield f"displace_adjoint<{axes}>"
        yield f"evaluate<{axes}>"
        yield f"evaluate_adjoint<{axes}>"
        yield f"invert<{axes}>"
        yield f"grid_coefficients<{axes}>"


def _filters(source, number, transposed):
    for order, along in product(range(2, MAX_ORDER + 1), BOOLEANS):
        yield f"filter<{source}, {number}, {order}, {transposed}, {along}>"


def _flat_kernels():
    for code, number, _ in _types():
        yield f"load<{code}, {number}>"
        yield f"store<{code}, {number}>"
        yield f"pad<{code}, {number}>"
        yield from _filters(code, number, "false")
    for number, own in ARITHMETIC.items():
        yield from _filters(own, number, "true")
        yield f"pad_adjoint<{number}>"
        yield f"add_from_fixed<{number}>"


FUNCTIONS = tuple(name for names in texts.FUNCTIONS.values() for name in names)


def instances():
    """Return all names without duplicates."""
    return sorted({*_voxel_kernels(), *_flat_kernels(), *FUNCTIONS})
