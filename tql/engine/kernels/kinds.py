"""The C type of each type of value, as `tql.jit` names them."""

from typing import Final

import numpy as np

from tql.engine.kernels.build import Unsuitable
from tql.language.expr import integer_type
from tql.schema import Bool, DType, Float, Int, Label, Time


def c_kind(dtype: DType) -> str:
    """The C type of a number; of a bool, 0 or 1. float16 is computed with as float32, exactly."""
    match dtype:
        case Int() | Label() | Bool():
            whole = integer_type(dtype)
            assert whole is not None
            return f"{'i' if whole.signed else 'u'}{whole.bits}"
        case Float(bits):
            return f"f{max(bits, 32)}"
        case Time():
            return "i64"
        case _:
            raise Unsuitable(f"values of type {dtype}")


NUMPY: Final = {
    f"{kind}{bits}": np.dtype(f"{name}{bits}")
    for kind, name, sizes in (
        ("i", "int", (8, 16, 32, 64)),
        ("u", "uint", (8, 16, 32, 64)),
        ("f", "float", (32, 64)),
    )
    for bits in sizes
}
