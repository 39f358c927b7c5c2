"""The paper's networks, run by onnxruntime."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import FITS_NONE, Classes
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError, ConfigError

from .fit_test import FitTest, confidence_of_ill
from .paper_networks import line_variance
from .spectrum_library import SpectrumLibrary, resampled
from .templates import Templates, estimated_templates
from .training import CARD, CLASSIFIER, ILL_DETECTOR, LIBRARY

if TYPE_CHECKING:
    import onnxruntime

_BATCH = 256


class NetworkClassifier:
    """Classifies by a convolutional network, and tells spectra of no phase by a fit test.

    Parameters
    ----------
    model
        Folder written by `train_spectra`.
    ill_test
        "deviance" tests spectra against the templates of the library the network was trained on; "paper"
        is the paper's: the variance of the regression network's distance from a straight line.
    background_per_channel_s
        Noise counts per channel and second that the spectra have and the library has not.
    false_alarm
        Share of spectra of known phases that the deviance may say to fit none. The paper's test has its
        threshold from training.
    threads
        Of onnxruntime; a pool has one worker for each core.

    Raises
    ------
    ClassifierError
        The folder does not hold a model.
    ConfigError
        An option is out of range.
    """

    def __init__(
        self,
        *,
        model: Path,
        ill_test: Literal["deviance", "paper"] = "deviance",
        background_per_channel_s: float = 0.0,
        false_alarm: float = 0.001,
        threads: int = 1,
    ) -> None:
        problems = [
            f"{name} = {value!r}: expected {expected}"
            for name, value, accepted, expected in (
                ("ill_test", ill_test, ill_test in ("deviance", "paper"), "deviance or paper"),
                (
                    "background_per_channel_s",
                    background_per_channel_s,
                    0 <= background_per_channel_s < math.inf,
                    "0 or more",
                ),
                ("false_alarm", false_alarm, 0 < false_alarm <= 0.1, "above 0, at most 0.1"),
                ("threads", threads, threads >= 1, "1 or more"),
            )
            if not accepted
        ]
        if problems:
            raise ConfigError(*problems)
        self._background_per_channel_s = background_per_channel_s
        self._false_alarm = false_alarm
        try:
            card = json.loads((model / CARD).read_text(encoding="utf-8"))
            self._phases = tuple(str(name) for name in card["phases"])
            self._axis = EnergyAxis(**card["axis"])
            self._first = int(card["first_channel"])
            self._temperature = float(card["temperature"])
            self._variance_threshold = float(card["ill_variance_threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClassifierError(f"{model} holds no model written by training: {error!r}") from error
        self._network = _session(model / CLASSIFIER, threads)
        self._ill_network = _session(model / ILL_DETECTOR, threads) if ill_test == "paper" else None
        self._templates: Templates | None = None
        self._fit_test: FitTest | None = None
        if ill_test == "deviance":
            self._templates = estimated_templates(SpectrumLibrary.load(model / LIBRARY))
            self._tested_axis = self._templates.axis
            self._fit_test = FitTest(self._templates, false_alarm=false_alarm)

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, label 1 first."""
        return self._phases

    def probabilities(
        self, counts: NDArray[Any], live_time_s: NDArray[np.float64], axis: EnergyAxis
    ) -> NDArray[np.float64]:
        """Return the probability of each phase, (n, L), given that it is one of them."""
        logits = self._run(self._network, counts, axis) / self._temperature
        odds = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def classify(self, counts: NDArray[Any], live_time_s: NDArray[np.float64], axis: EnergyAxis) -> Classes:
        """Classify spectra, as `SpectrumClassifier` says."""
        if counts.ndim != 2 or counts.shape[1] != axis.channels:
            raise ClassifierError(f"expected spectra of {axis.channels} channels, got {counts.shape}")
        probabilities = self.probabilities(counts, live_time_s, axis)
        if self._ill_network is not None:
            return self._by_variance(probabilities, self._run(self._ill_network, counts, axis))
        if self._templates is not None and axis != self._tested_axis:
            self._fit_test = FitTest(self._templates.on(axis), false_alarm=self._false_alarm)
            self._tested_axis = axis
        assert self._fit_test is not None  # noqa: S101
        background = self._background_per_channel_s * live_time_s
        return self._fit_test.classes(counts, probabilities, live_time_s, background)

    def _by_variance(self, probabilities: NDArray[np.float64], outputs: NDArray[np.float32]) -> Classes:
        """Return classes by equation 16, which gives no more than yes or no."""
        is_ill = line_variance(outputs) > self._variance_threshold
        at_threshold = confidence_of_ill(np.array([self._false_alarm]))[0]
        return Classes(
            labels=np.where(is_ill, FITS_NONE, probabilities.argmax(axis=1) + 1).astype(np.int32),
            confidence=np.where(is_ill, at_threshold, probabilities.max(axis=1)),
        )

    def _run(
        self, session: onnxruntime.InferenceSession, counts: NDArray[Any], axis: EnergyAxis
    ) -> NDArray[np.float32]:
        """Return the outputs of a network, (n, outputs)."""
        outputs = [np.empty((0, session.get_outputs()[0].shape[1] or len(self._phases)), dtype=np.float32)]
        for first in range(0, len(counts), _BATCH):
            seen = counts[first : first + _BATCH]
            if axis != self._axis:
                seen = resampled(seen, axis, self._axis)
            prepared = seen.astype(np.float32)
            prepared[:, : self._first] = 0
            outputs.append(session.run(None, {"counts": prepared})[0])
        return np.concatenate(outputs)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base.
        raise ClassifierError(f"{path} is no network that onnxruntime can run: {error}") from error
