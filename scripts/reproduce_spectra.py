"""Classifiers of spectra: error against dose, and spectra of no phase."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sparse_actors.models.likelihood import LikelihoodClassifier, PhaseLikelihood, posterior
from sparse_actors.models.templates import estimated_templates
from spectrum_specimens import (
    CLOSE,
    LIBRARY_COUNTS,
    LIVE_TIME_S,
    Specimen,
    minerals,
    standards,
    trained_network,
)

Row = dict[str, Any]
DOSES = (50, 100, 200, 500, 1000, 5000)
BACKGROUNDS = (0.0, 2.0)
PAIR = ("SiO2", "K412")
FALSE_ALARM = 0.001
SPECTRA, QUICK_SPECTRA = 4000, 200
EPOCHS, QUICK_EPOCHS = 40, 1
ILL_COUNTS = 7500

DOSE_TEXT = """# Error of the phase against dose

Share of spectra given a wrong phase when one of the known phases must be named, and in brackets the share
that the classifier's own confidence lets expect. `likelihood` and `cnn` (the
network of the SLADS-EDS paper, trained by `train_spectra`) know a library of up to twelve real spectra of
{library:g} counts for each phase; `limit` is the likelihood with the true mean spectra of the test
spectra and the true noise. Noise is Poisson, in counts per channel. `drawn` spectra are Poisson counts of
the mean of the test spectra; `real` ones are measured spectra that are not in the library, thinned
binomially: they vary as the specimen does. {n} spectra for each number.

`2` are SiO2 and K412 glass (NIST, 15 kV); `4, two close` are these, MgO, and a sum of K412 and SiO2 that is
0.054 nat a count from K412; `4 minerals` are those of a chevkinite section, 20 kV, whose reference labels
are themselves from clustering, and hold inclusions. None is the paper's alloy or powder.

{made_by}
"""

ILL_TEXT = """# Spectra of no known phase

Share of spectra said to fit no phase, in percent. The known phases are SiO2 and K412 glass (NIST, 15 kV) with
{counts} counts and noise of 2 counts per channel, unless the table says otherwise. `deviance` is the
product's test at 0.1 % false alarms; `paper` is the variance of the regression network (5 x 100), its
threshold at 0.1 % of the validation half of the library. All spectra but the Poisson ones are real,
held out of the library and thinned. Counts are means above the noise. {n} spectra for each number.

{made_by}

| known phases | spectra | counts | noise | must be | deviance | paper |
|---|---|---|---|---|---|---|
"""


def dose_rows(quick: bool, seed: int) -> Iterator[Row]:
    """Measure the errors; every classifier sees the same spectra."""
    n = QUICK_SPECTRA if quick else SPECTRA
    specimens: list[tuple[str, Specimen, tuple[str, ...]]] = [("2", standards(), PAIR)]
    if not quick:
        section = minerals()
        specimens.append(("4, two close", standards(), (*PAIR, CLOSE, "MgO")))
        specimens.append(("4 minerals", section, tuple(section.tests)))
    for name, specimen, phases in specimens:
        for background in BACKGROUNDS:
            random = np.random.default_rng([seed, len(phases), int(background)])
            with tempfile.TemporaryDirectory() as folder:
                classifiers = _classifiers(Path(folder), specimen, phases, background, quick, seed)
            for dose in DOSES[::5] if quick else DOSES:
                for source in ("drawn", "real"):
                    each = specimen.drawn if source == "drawn" else specimen.real
                    counts = np.concatenate([each(p, n // len(phases), dose, random) for p in phases])
                    counts += random.poisson(background, counts.shape)
                    truth = np.repeat(np.arange(len(phases)), n // len(phases))
                    for method, found in classifiers.items():
                        probabilities = found(counts.astype(np.uint32))
                        yield {
                            "phases": name,
                            "background": background,
                            "spectra": source,
                            "dose": dose,
                            "method": method,
                            "error": float((probabilities.argmax(axis=1) != truth).mean()),
                            "expected_error": float(1 - probabilities.max(axis=1).mean()),
                            "n": len(truth),
                        }


def _classifiers(
    folder: Path, specimen: Specimen, phases: tuple[str, ...], background: float, quick: bool, seed: int
) -> dict[str, Any]:
    """Return by name what makes spectra (n, channels) into probabilities of phases, (n, L)."""
    library = specimen.spectrum_library(phases, np.random.default_rng(seed))
    path = folder / "library.npz"
    library.save(path)
    axis, per_s = specimen.axis, background / LIVE_TIME_S
    likelihood = LikelihoodClassifier(library=path, background_per_channel_s=per_s)
    templates = estimated_templates(library)
    true = np.stack([specimen.mean(phase)[templates.window] for phase in phases]) + 1e-9
    limit = PhaseLikelihood(
        dataclasses.replace(templates, shapes=true / true.sum(axis=1, keepdims=True), doubtful=())
    )

    def live(counts: Any) -> Any:
        return np.full(len(counts), LIVE_TIME_S)

    methods = {
        "limit": lambda x: posterior(*limit.ratios(x, np.full(len(x), background)), 0.0),
        "likelihood": lambda x: likelihood.probabilities(x, live(x), axis),
    }
    if network := trained_network(folder, path, background, epochs=_epochs(quick), seed=seed):
        methods["cnn"] = lambda x: network.probabilities(x, live(x), axis)
    return methods


def _epochs(quick: bool) -> int:
    return QUICK_EPOCHS if quick else EPOCHS


def dose_line(row: Row) -> str:
    """Return one error for people."""
    spectra = "{phases}: noise {background:g}, {spectra:5} {dose:5} counts: ".format(**row)
    return spectra + "{method:10} {error:.4f}, {expected_error:.4f} expected".format(**row)


def dose_documents(rows: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    doses = sorted({row["dose"] for row in rows})
    text = DOSE_TEXT.format(library=LIBRARY_COUNTS, n=rows[0]["n"], made_by=made_by)
    for source in ("drawn", "real"):
        lines = [f"\n## {source.capitalize()} spectra\n"]
        lines.append("| phases | noise | method | " + " | ".join(f"{dose} counts" for dose in doses) + " |")
        lines.append("|---|---|---|" + "---|" * len(doses))
        errors = {
            (
                row["phases"],
                row["background"],
                row["method"],
                row["dose"],
            ): "{error:.4f} ({expected_error:.4f})".format(**row)
            for row in rows
            if row["spectra"] == source
        }
        for phases, background, method in dict.fromkeys(key[:3] for key in errors):
            cells = " | ".join(errors[phases, background, method, dose] for dose in doses)
            lines.append(f"| {phases} | {background:g} | {method} | {cells} |")
        text += "\n".join(lines) + "\n"
    return {"spectra-dose.md": text}


def ill_rows(quick: bool, seed: int) -> Iterator[Row]:
    """Test spectra of every kind."""
    n = QUICK_SPECTRA if quick else SPECTRA
    random = np.random.default_rng([seed, 7])
    specimen = standards()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "library.npz"
        specimen.spectrum_library(PAIR, np.random.default_rng(seed)).save(path)
        tests: dict[str, Any] = {
            "deviance": LikelihoodClassifier(
                library=path, background_per_channel_s=2 / LIVE_TIME_S, false_alarm=FALSE_ALARM
            )
        }
        if network := trained_network(folder, path, 2.0, epochs=_epochs(quick), seed=seed, ill_test="paper"):
            tests["paper"] = network
        plain = {"deviance": LikelihoodClassifier(library=path, false_alarm=FALSE_ALARM)}
    for kind, counts, must in _kinds(specimen, n, random):
        above_noise = round(float((counts - 2.0).sum(axis=1).mean()))
        yield from _judged("SiO2, K412", kind, above_noise, 2.0, counts, must, tests, specimen)
    for dose in DOSES[::5] if quick else DOSES:
        for phase, must in ((PAIR[0], "kept"), (PAIR[1], "kept"), ("CaF2", "refused"), ("MgO", "refused")):
            counts = specimen.real(phase, n, dose, random)
            kind = f"{'known' if must == 'kept' else 'unknown'}: {phase}"
            yield from _judged("SiO2, K412", kind, dose, 0.0, counts, must, plain, specimen)
    yield from _ill_minerals(n, random, quick)


def _kinds(specimen: Specimen, n: int, random: np.random.Generator) -> Iterator[tuple[str, Any, str]]:
    """Yield the kinds with noise of 2 counts per channel: name, spectra, what must come of them."""
    shape = (n, specimen.axis.channels)

    def noisy(counts: Any) -> Any:
        return counts + random.poisson(2, counts.shape)

    for phase in PAIR:
        yield f"known: {phase}", noisy(specimen.real(phase, n, ILL_COUNTS, random)), "kept"
    known = noisy(specimen.real(PAIR[0], n, ILL_COUNTS, random))
    yield "known at 5 % dose", noisy(specimen.real(PAIR[0], n, 0.05 * ILL_COUNTS, random)), "kept"
    yield "Poisson 20", random.poisson(20, shape), "refused"
    yield "Poisson 2: no signal", random.poisson(2, shape), "refused"
    yield "Poisson, counts as a real spectrum", random.poisson(known.mean(), shape), "refused"
    for phase in sorted(set(specimen.tests) - set(PAIR)):
        yield f"unknown: {phase}", noisy(specimen.real(phase, n, ILL_COUNTS, random)), "refused"
    halves = [specimen.real(phase, n, ILL_COUNTS / 2, random) for phase in PAIR]
    yield "50/50 mixture of the known", noisy(halves[0] + halves[1]), "refused"
    yield "energies flipped", known[:, ::-1], "refused"


def _ill_minerals(n: int, random: np.random.Generator, quick: bool) -> Iterator[Row]:
    """Test each mineral against a library of the other three, and all against a library of all."""
    specimen = minerals()
    everything = tuple(specimen.tests)
    for unknown in (None, *everything):
        phases = tuple(phase for phase in everything if phase != unknown)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "library.npz"
            specimen.spectrum_library(phases, np.random.default_rng(0)).save(path)
            test = {"deviance": LikelihoodClassifier(library=path, false_alarm=FALSE_ALARM)}
        for dose in (200, 1000, ILL_COUNTS):
            if unknown:
                counts = specimen.real(unknown, n, dose, random)
                name, kind, must = "the other minerals", f"unknown: {unknown}", "refused"
            else:
                counts = np.concatenate([specimen.real(p, n // len(phases), dose, random) for p in phases])
                name, kind, must = "four minerals", "known, with inclusions", "kept"
            yield from _judged(name, kind, dose, 0.0, counts, must, test, specimen)
        if quick:
            return


def _judged(
    known: str,
    kind: str,
    dose: float,
    background: float,
    counts: Any,
    must: str,
    tests: dict[str, Any],
    specimen: Specimen,
) -> Iterator[Row]:
    # The dwell time is the library's with noise, as in the paper; without, it goes with the dose.
    live_s = LIVE_TIME_S if background else LIVE_TIME_S * dose / LIBRARY_COUNTS
    for method, classifier in tests.items():
        labels = classifier.classify(
            counts.astype(np.uint32), np.full(len(counts), live_s), specimen.axis
        ).labels
        yield {
            "known": known,
            "kind": kind,
            "dose": dose,
            "background": background,
            "must_be": must,
            "method": method,
            "refused": float((labels == 0).mean()),
            "n": len(counts),
        }


def ill_line(row: Row) -> str:
    """Return one share for people."""
    spectra = "{known}: {kind} ({dose:g} counts, noise {background:g})".format(**row)
    return spectra + ", must be {must_be}: {method} refuses {refused:.2%}".format(**row)


def ill_documents(rows: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    text = ILL_TEXT.format(counts=ILL_COUNTS, n=rows[0]["n"], made_by=made_by)
    by_kind: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("known", "kind", "dose", "background", "must_be"))
        by_kind.setdefault(key, {})[row["method"]] = row["refused"]
    for (known, kind, dose, background, must), shares in by_kind.items():
        cells = " | ".join(f"{100 * shares[m]:.2f}" if m in shares else "" for m in ("deviance", "paper"))
        text += f"| {known} | {kind} | {dose:g} | {background:g} | {must} | {cells} |\n"
    return {"spectra-ill.md": text}
