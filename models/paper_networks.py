"""The two networks of Zhang et al., Ultramicroscopy 184 (2018) 90, section 2.3 and 3.1.3, in PyTorch.

PyTorch is needed to train only; it is imported when a network is made.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sparse_actors.contracts.spectra import EnergyAxis

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from .spectrum_library import SpectrumLibrary

CHANNELS = 2048
LINE_LENGTH = 100
"""Q: outputs of the regression network, and neurons in each of its five hidden layers."""
STRAIGHT_LINE = np.arange(LINE_LENGTH, dtype=np.float64)
"""f of equation 12: the ramp that every spectrum of a known phase is mapped to."""


def network_axis(library: SpectrumLibrary) -> EnergyAxis:
    """Return the energy axis of 2048 channels that a network for a library sees.

    The flat layer has 2048 neurons for 2040 as for 2048 channels, so the paper's 2040 stay as they
    are. A finer or longer axis is cropped above the beam energy, and resampled if that is not enough.
    """
    axis = library.axis
    if axis.channels in (2040, CHANNELS):
        return axis
    end_kev = axis.offset_kev + axis.scale_kev * axis.channels
    needed_kev = min(end_kev, 1.05 * library.beam_kev)
    scale_kev = max(
        axis.scale_kev if axis.channels > CHANNELS else 0.0, (needed_kev - axis.offset_kev) / CHANNELS
    )
    return EnergyAxis(channels=CHANNELS, offset_kev=axis.offset_kev, scale_kev=scale_kev)


def classification_network(phases: int) -> nn.Module:
    """Return the classifier: square roots of counts (n, 2040 or 2048) to logits (n, phases).

    Kernels 10 wide, stride 2 everywhere, 8 and 16 features, dense layers of 2048, 100, 32 and 8.
    Square roots have the same counting noise in all channels; the paper gives no scale for its input.
    """
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, -1)),
        nn.Conv1d(1, 8, 10, stride=2, padding=4),
        nn.ReLU(),
        nn.MaxPool1d(10, 2, padding=4),
        nn.Conv1d(8, 16, 10, stride=2, padding=4),
        nn.ReLU(),
        # ceil_mode makes 128 of 255 channels: the paper's flat layer of 16 * 128.
        nn.MaxPool1d(10, 2, padding=4, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(2048, 100),
        nn.ReLU(),
        nn.Linear(100, 32),
        nn.ReLU(),
        nn.Linear(32, 8),
        nn.ReLU(),
        nn.Linear(8, phases),
    )


def regression_network(channels: int) -> nn.Module:
    """Return the detector of ill spectra: scaled counts (n, channels) to Q numbers (n, 100), equation 12."""
    from torch import nn

    sizes = [channels] + [LINE_LENGTH] * 5
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [nn.Linear(size, next_size), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(LINE_LENGTH, LINE_LENGTH))


def line_variance(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the variance metric of regression outputs (n, 100): equations 13 to 15, (n,)."""
    variance: NDArray[np.float64] = np.abs(STRAIGHT_LINE - outputs).var(axis=1)
    return variance
