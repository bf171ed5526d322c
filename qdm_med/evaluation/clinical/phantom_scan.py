"""A phantom that a user has scanned: its inserts and line pairs, read at the places that a file gives.

The truth is not known, so that a scan can show harm only: noise amplified, means moved, line pairs or rims worse than
bicubic interpolation leaves them. A file of regions::

    slice: 12                        # counted from 0; the middle slice if it is left out
    inserts:
      - {name: acrylic, centre: [188.5, 256.0], radius: 10.5, hu: 120}
    line_pairs:
      - {name: 4 lp/cm, centre: [272.8, 269.0], radii: [93, 97], angles: [262.6, 271.8]}
      - {name: 6 lp/cm, box: [210, 300, 228, 318]}

Places are rows and columns of the scan, counted from the centre of its first pixel; angles are degrees, counter-clockwise
from the right; a box is its first row and column and its last ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.ndimage import map_coordinates

from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.clinical.case import Finding
from qdm_med.evaluation.clinical.measures import Measure, constant, of_bicubic
from qdm_med.evaluation.clinical.scan import Floats
from qdm_med.evaluation.clinical.transfer import REACH, insert_transfer
from qdm_med.io.read import read_volume
from qdm_med.serialise import from_mapping
from qdm_med.volume import FloatArray

CORE_SHARE = 0.6
"""Share of an insert's radius that is read for noise and mean."""

READINGS = 20
"""Readings a degree of an arc."""

RADII = 12
"""Circles that are averaged over the width of a ring of bars."""


@dataclass(frozen=True)
class Insert:
    """A round, uniform insert.

    Attributes:
        name: In tables.
        centre: Row and column of its middle in pixels.
        radius: In pixels.
        hu: HU that it is known to have; ``None``: the HU that the scan shows.
    """

    name: str
    centre: tuple[float, float]
    radius: float
    hu: float | None = None


@dataclass(frozen=True)
class LinePairs:
    """A group of bars: on an arc (CatPhan), or in a box (ACR).

    Attributes:
        name: In tables.
        centre: Row and column of the arc's middle.
        radii: Inner and outer radius of the bars, in pixels.
        angles: First and last angle in degrees.
        box: First row and column, last row and column.
    """

    name: str
    centre: tuple[float, float] | None = None
    radii: tuple[float, float] | None = None
    angles: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Reject an incomplete place."""
        arc = (self.centre, self.radii, self.angles)
        if (self.box is None) == all(part is None for part in arc) or (self.box is None and None in arc):
            raise ConfigError(f"line pairs {self.name}: give either centre, radii and angles, or a box")


@dataclass(frozen=True)
class Regions:
    """Places on a phantom.

    Attributes:
        inserts: Round inserts.
        line_pairs: Groups of bars.
        slice: Number of the slice, from 0; ``None``: the middle one.
    """

    inserts: tuple[Insert, ...] = ()
    line_pairs: tuple[LinePairs, ...] = ()
    slice: int | None = None  # the word of the file

    def __post_init__(self) -> None:
        """Reject a file that names no place, or one twice."""
        names = [*(one.name for one in self.inserts), *(one.name for one in self.line_pairs)]
        if not names:
            raise ConfigError("no inserts and no line_pairs are named")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{twice[0]} is named twice; give every region its own name")


def read_regions(path: Path) -> Regions:
    """Read a YAML or JSON file of regions.

    Raises:
        ConfigError: If it is missing, damaged or says something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); give --regions a YAML file"
        ) from None
    try:
        return from_mapping(Regions, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


@dataclass(frozen=True)
class PhantomScanCase:
    """A user's scan as a case.

    Attributes:
        title: Name of the phantom, for people.
        scale: Magnification.
        low_hu: The scan.
        regions: Places on it.
        truth_hu: ``None``: nobody knows it.
    """

    title: str
    scale: int
    low_hu: FloatArray
    regions: Regions
    truth_hu: FloatArray | None = None

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Measure noise, mean and rim of every insert, and the modulation of every group of bars."""
        answer, source = hu.astype(np.float64), self.low_hu.astype(np.float64)
        for insert in self.regions.inserts:
            own, before = (_core(image, insert, scale) for image, scale in ((answer, self.scale), (source, 1)))
            mean, known = float(before.mean()), before.mean() if insert.hu is None else insert.hu
            yield Finding(f"noise of {insert.name}", float(own.std() / max(before.std(), 1e-6)))
            shift = max(min(mean, known) - own.mean(), own.mean() - max(mean, known), 0.0)
            yield Finding(f"shift of {insert.name}", float(shift))
            if insert.radius > REACH:
                rim = insert_transfer(answer, *insert.centre, insert.radius, self.scale)
                yield Finding(f"rim of {insert.name}", rim.mtf50 if rim else float("nan"))
        for bars in self.regions.line_pairs:
            low, high = np.percentile(_bars(answer, bars, self.scale), (5, 95))
            yield Finding(f"modulation of {bars.name}", float(high - low))


def _core(hu: Floats, insert: Insert, scale: int) -> Floats:
    rows, columns = ((np.arange(length) + 0.5) / scale - 0.5 for length in hu.shape)
    away = np.hypot(rows[:, None] - insert.centre[0], columns[None, :] - insert.centre[1])
    return hu[away < CORE_SHARE * insert.radius]


def _bars(hu: Floats, bars: LinePairs, scale: int) -> Floats:
    """Read HU along an arc, averaged over its width, or all pixels of a box."""
    if bars.box is not None:
        top, left, bottom, right = (round((place + 0.5) * scale - 0.5) for place in bars.box)
        return hu[top : bottom + 1, left : right + 1].ravel()
    centre, radii, angles = bars.centre, bars.radii, bars.angles
    assert centre is not None  # __post_init__
    assert radii is not None
    assert angles is not None
    angle = np.deg2rad(np.linspace(*angles, max(2, round(abs(angles[1] - angles[0]) * READINGS))))
    radius = np.linspace(*radii, RADII)[:, None]
    places = (centre[0] - radius * np.sin(angle), centre[1] + radius * np.cos(angle))
    read: Floats = map_coordinates(hu, [(place + 0.5) * scale - 0.5 for place in places], order=1).mean(axis=0)
    return read


@dataclass(frozen=True)
class PhantomScan:
    """A user's scan with the places on it.

    Attributes:
        title: Name of the phantom, for people.
        hu: ``(rows, columns)`` HU.
        regions: Places.
    """

    title: str
    hu: FloatArray
    regions: Regions

    def case(self, scale: int) -> PhantomScanCase:
        """The scan as a case at a magnification."""
        return PhantomScanCase(self.title, scale, self.hu, self.regions)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Bars of this phantom."""
        inserts = [measure for insert in self.regions.inserts for measure in _insert_measures(insert.name)]
        return (*inserts, *(_modulation_measure(bars.name) for bars in self.regions.line_pairs))


def _insert_measures(name: str) -> tuple[Measure, ...]:
    return (
        Measure(f"noise of {name}", f"phantom: noise out / in, {name}", f"noise in {name} of the phantom is amplified {{value:.2f}} times", "at most", constant(1.0)),
        Measure(f"shift of {name}", f"phantom: shift of the mean HU, {name}", f"the mean of {name} of the phantom is moved by {{value:.1f}} HU", "at most", constant(1.0), digits=2),
        Measure(f"rim of {name}", f"phantom: MTF50 at the rim, {name}, cycles a source pixel", f"the rim of {name} is blunter than bicubic's: MTF50 {{value:.2f}} ({{bicubic:.2f}})", "at least", of_bicubic(1.0)),
    )  # fmt: skip


def _modulation_measure(name: str) -> Measure:
    fault = f"{name} lose modulation: {{value:.0f}} HU (bicubic {{bicubic:.0f}})"
    return Measure(
        f"modulation of {name}", f"phantom: modulation of {name}, HU", fault, "at least", of_bicubic(1.0), digits=0
    )


def read_phantom(path: Path, regions: Path) -> PhantomScan:
    """Read a user's scan and its file of places.

    Args:
        path: DICOM file or folder, NIfTI, NRRD or MetaImage file.
        regions: File of regions.

    Raises:
        QdmMedError: If one cannot be read, there is no such slice, or a region lies outside it.
    """
    places = read_regions(regions)
    volume = read_volume(path)
    number = len(volume) // 2 if places.slice is None else places.slice
    if not 0 <= number < len(volume):
        raise DataError(f"{regions}: slice {number} is not in {path}, which has 0 to {len(volume) - 1}; correct it")
    hu = volume.slices[number].hu
    _check_inside(path, places, hu.shape)
    return PhantomScan(f"phantom scan, slice {number}", hu, places)


def _check_inside(path: Path, regions: Regions, shape: tuple[int, ...]) -> None:
    for insert in regions.inserts:
        reach = insert.radius + (REACH if insert.radius > REACH else 0)
        _refuse_outside(path, insert.name, shape, insert.centre, reach)
    for bars in regions.line_pairs:
        if bars.box is not None:
            for corner in (bars.box[:2], bars.box[2:]):
                _refuse_outside(path, bars.name, shape, corner, 0.0)
        elif bars.centre is not None and bars.radii is not None:
            _refuse_outside(path, bars.name, shape, bars.centre, max(bars.radii))


def _refuse_outside(path: Path, name: str, shape: tuple[int, ...], place: tuple[float, float], reach: float) -> None:
    if any(where - reach < 0 or where + reach > length - 1 for where, length in zip(place, shape, strict=True)):
        raise DataError(
            f"{path}: region {name} at {place[0]:g}, {place[1]:g} reaches {reach:g} pixels and leaves the "
            f"{shape[0]} x {shape[1]} slice; correct its place in the regions"
        )
