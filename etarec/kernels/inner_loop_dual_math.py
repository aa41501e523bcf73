"""Building blocks of the dual form: gelu, layer norm, products with weights that rows share or own.

Symbols: R rows, m tokens, H heads, N sequences; rows are ordered by sequence, then head.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NORM_EPS = 1e-6
_LINEAR = 1.5957691216057308  # sqrt(8 / pi): gelu(x) = x sigmoid(_LINEAR x + _CUBIC x^3), its tanh approximation
_CUBIC = 0.044715 * _LINEAR


class Gelu(NamedTuple):
    """x, sigmoid(_LINEAR x + _CUBIC x^3) and their product gelu(x)."""

    x: Tensor
    sigmoid: Tensor
    value: Tensor


def gelu(x: Tensor) -> Gelu:
    sigmoid = (x * x).mul_(_CUBIC).add_(_LINEAR).mul_(x).sigmoid_()
    return Gelu(x, sigmoid, x * sigmoid)


def gelu_slope(at: Gelu) -> Tensor:
    """gelu'(x) = s + x s (1 - s) t', t' = _LINEAR + 3 _CUBIC x^2 being the slope of the sigmoid's argument."""
    inner = (at.x * at.x).mul_(3 * _CUBIC).add_(_LINEAR)
    return torch.addcmul(at.sigmoid, at.value, inner.addcmul_(inner, at.sigmoid, value=-1))


def gelu_curvature(at: Gelu) -> Tensor:
    """gelu''(x) = s (1 - s) (2 t' + x t'' + x t'^2 (1 - 2 s)), t'' = 6 _CUBIC x."""
    square = at.x * at.x
    inner = (square * (3 * _CUBIC)).add_(_LINEAR)
    bent = (inner * inner).mul_(at.x)
    bent.addcmul_(bent, at.sigmoid, value=-2).add_(inner, alpha=2).add_(square, alpha=6 * _CUBIC)
    return bent.mul_(torch.addcmul(at.sigmoid, at.sigmoid, at.sigmoid, value=-1))


def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x - mean) / std over the last dimension, and 1 / std."""
    unit, _, inverse_std = torch.native_layer_norm(x, x.shape[-1:], None, None, NORM_EPS)
    return unit, inverse_std


def normalise_back(d_unit: Tensor, unit: Tensor, inverse_std: Tensor) -> Tensor:
    along = (d_unit * unit).mean(-1, keepdim=True)
    return (d_unit - d_unit.mean(-1, keepdim=True)).addcmul_(unit, along, value=-1).mul_(inverse_std)


def by_owner(x: Tensor, owners: int) -> Tensor:
    """Rows grouped by the weights that multiply them: [R, m, ...], or [H, N m, ...] where rows of a head share some."""
    if owners == x.shape[0]:
        return x
    return x.unflatten(0, (-1, owners)).transpose(0, 1).reshape(owners, -1, x.shape[2])


def by_row(y: Tensor, rows: int) -> Tensor:
    """Inverse of `by_owner`: [R, m, ...]."""
    if rows == y.shape[0]:
        return y
    return y.unflatten(1, (rows // y.shape[0], -1)).transpose(0, 1).reshape(rows, -1, y.shape[2])


def summed(d: Tensor, owners: int) -> Tensor:
    return by_owner(d, owners).sum(1, keepdim=True)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b."""
    return by_row(torch.baddbmm(bias, by_owner(x, weight.shape[0]), weight), x.shape[0])


def times(x: Tensor, weight: Tensor) -> Tensor:
    """x W."""
    return by_row(torch.bmm(by_owner(x, weight.shape[0]), weight), x.shape[0])


def plus(total: Tensor | None, rows: slice, size: int, more: Tensor) -> Tensor:
    """Adds `more` to some rows of a total of `size` rows; a total of None is 0."""
    if total is None:
        if more.shape[0] == size:
            return more
        total = more.new_zeros(size, *more.shape[1:])
    total[rows].add_(more)
    return total


def plus_product(total: Tensor | None, rows: slice, size: int, a: Tensor, b: Tensor) -> Tensor:
    if total is None:
        return plus(None, rows, size, torch.bmm(a, b))
    total[rows].baddbmm_(a, b)
    return total


def along_last(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def heads_inside(like: Tensor) -> Tensor:
    """An empty [N, H, L, F] laid out as [N, L, H, F], so that joining the heads costs nothing."""
    N, H, L, F = like.shape
    return like.new_empty(N, L, H, F).transpose(1, 2)
