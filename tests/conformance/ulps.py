"""How far two computations of the same numbers are apart, in units of their rounding."""

import torch


def unit(values, dtype):
    """Distance of neighbouring numbers of `dtype` at these values, float64."""
    bits = {torch.float32: 23, torch.bfloat16: 7}[dtype]
    exponent = torch.frexp(values.double().abs().clamp(min=2.0**-126))[1] - 1
    return torch.ldexp(torch.ones_like(values, dtype=torch.float64), exponent - bits)


def excess(one, other, inputs):
    """Largest |one - other| in float32 units of each entry's largest input or result; the share of unequal entries.

    Where the results are bfloat16, a neighbouring number is no difference: what float32 left at the border of two
    roundings may fall to either side.
    """
    difference = (one.double() - other.double()).abs()
    if one.dtype == torch.bfloat16:
        difference = (difference - unit(torch.maximum(one.abs(), other.abs()), torch.bfloat16)).clamp(min=0)
    scale = unit(torch.stack([x.float().abs() for x in (one, *inputs)]).amax(0), torch.float32)
    return float((difference / scale).max()), float((one != other).double().mean())
