"""Random task matrices, and the spectral methods with their spectra worked out, for the tests."""

import torch

from langmerge.merging.methods import spectra, spectral, wudi

TOLERANCE = 1e-5
SHAPES = [(12, 20), (20, 12), (16, 16), (1, 9), (9, 1)]


def noise(seed, shape, n=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * 1e-2 for _ in range(n)]


def low_rank(seed, shape, rank, n=3):
    left, right = noise(seed, (shape[0], rank), n), noise(seed + 1, (rank, shape[1]), n)
    return [a @ b for a, b in zip(left, right, strict=True)]


def orthogonal(seed, size):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).double())[0]


def known(matrices):
    return [spectra.spectrum(matrix, TOLERANCE) for matrix in matrices]


def tsv_m(matrices, factors=None):
    return spectral.tsv_m(matrices, known(matrices), factors or [1.0] * len(matrices), TOLERANCE)


def iso_c(matrices):
    total = sum(matrices)
    return spectral.iso_c(total, spectra.spectrum(total, TOLERANCE))


def iso_cts(matrices, fraction=0.5):
    total = sum(matrices)
    return spectral.iso_cts(matrices, total, spectra.spectrum(total, TOLERANCE), fraction, TOLERANCE)


def knots(matrices, inner="ties", density=1.0, factors=None, normalize=True):
    tall = matrices[0].shape[0] > matrices[0].shape[1]
    basis = spectral.common_basis(matrices, known(matrices) if tall else None, TOLERANCE)
    parts = spectral.aligned(basis, matrices)
    return spectral.knots(basis, parts, inner, density, factors or [1.0] * len(matrices), normalize)


def exact(matrices, factors=None):
    loss = wudi.quadratic(matrices, known(matrices), factors or [1.0] * len(matrices), torch.float64)
    return wudi.minimum(sum(matrices), loss, TOLERANCE)


def same(one, other, relative=1e-5):
    one, other = (torch.as_tensor(x).to(torch.float64) for x in (one, other))
    assert one.shape == other.shape
    assert float((one - other).norm()) <= relative * float(other.norm()) + 1e-12
