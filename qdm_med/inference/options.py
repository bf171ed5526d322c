"""Options with which a checkpoint is run, and modes that name useful combinations of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import NamedTuple, get_args

from qdm_med.checkpoints.model import ModelCard, Purpose
from qdm_med.errors import ConfigError
from qdm_med.inference.names import ConsistencyName, FusionName, ModeName, Precision
from qdm_med.inference.tiling import OVERLAP, AnyTiling, HaloTiling, Tiling
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.qdm.names import QuadtreeKind
from qdm_med.models.qdm.quadtree import AdaptiveQuadtree, PaperQuadtree, Quadtree
from qdm_med.uncertainty import SpreadCalibration, nearest_calibration


class Mode(NamedTuple):
    """A point between the smallest error and the most detail.

    A sample of what is likely has more error than the mean of many, and looks more like a CT slice: no setting is best
    in both (Blau and Michaeli, CVPR 2018).

    Attributes:
        steps: Sampling steps, or the model's whole chain if it is shorter; ``None``: the checkpoint's default for the scale.
        samples: Samples whose mean is taken.
        temperature: Factor on all noise of the sampler.
        threshold: Quadtree threshold; ``None``: the checkpoint's default.
    """

    steps: int | None = None
    samples: int = 1
    temperature: float = 1.0
    threshold: float | None = None


class Sampling(NamedTuple):
    """Numbers with which the chain is run; attributes as of :class:`Mode`."""

    steps: int
    samples: int
    temperature: float


MODES: Mapping[Purpose, Mapping[ModeName, Mode]] = MappingProxyType(
    {
        "benchmark": MappingProxyType(
            {
                "faithful": Mode(steps=2, samples=4),
                "balanced": Mode(),
                "detailed": Mode(steps=8, threshold=0.0),
            }
        ),
        "clinical": MappingProxyType(
            {
                "faithful": Mode(steps=1, temperature=0.0),
                "balanced": Mode(),
                "detailed": Mode(steps=2),
            }
        ),
    }
)
"""Modes by the purpose of the model. ``faithful`` is, or comes near, the mean of what is likely, and invents least;
``balanced`` is one sample; ``detailed`` walks more steps, and the benchmark model's refines every leaf, smooth tissue included. The models' cards have
the figures of each."""

DEFAULT_MODE: Mapping[Purpose, ModeName] = MappingProxyType({"benchmark": "balanced", "clinical": "faithful"})
DEFAULT_CONSISTENCY: Mapping[Purpose, ConsistencyName] = MappingProxyType({"benchmark": "off", "clinical": "spread"})
"""Agreement where none is asked for: ``"off"`` for benchmarks, whose noise has a mean of zero in the network's range, not in HU."""

_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mode": get_args(ModeName),
        "consistency": get_args(ConsistencyName),
        "quadtree": get_args(QuadtreeKind),
        "precision": get_args(Precision),
        "fusion": get_args(FusionName),
    }
)
"""Options that are names, and the names they know."""


NEARBY_TILE = 544
"""Side in latents of a tile of a network that sees nearby tokens only: a slice of 512 at x4 is one, and at x8 four. Twice the side would take four
times the memory to spare 12 % of the pixels at x8."""

DEFAULT_FUSION: Mapping[Purpose, FusionName] = MappingProxyType({"benchmark": "gaussian", "clinical": "halo"})

LARGEST_FWHM = 5.0
"""Source pixels beyond which no scanner's point spread reaches."""

WITHOUT_EFFECT: Mapping[str, str] = MappingProxyType(
    {"batch_leaves": "what is computed together; HU agree to within the rounding of float32"}
)
"""Options that pixels do not depend on, and why; all others identify a run."""


@dataclass(frozen=True)
class UpscaleOptions:
    """Options with which a checkpoint is run.

    Attributes:
        scale: Magnification along rows and columns.
        seed: Key of the noise; the same seed gives the same images.
        mode: Names a combination of steps, samples and temperature, each of which can be given by itself as well; ``None``:
            the default of models for such slices.
        steps: Sampling steps; ``None``: the mode's.
        samples: Samples whose mean is taken; ``None``: the mode's. The more, the closer to what is expected of the source
            and the less invented detail; time grows with them.
        temperature: Factor on all noise of the sampler; ``None``: the mode's. Below 1 samples are smoother.
        consistency: Agreement of the slice with its source in HU, see :mod:`qdm_med.inference.consistency`: ``"off"`` (the
            networks' answer within plausible bounds), ``"local"`` (the mean of every neighbourhood), ``"spread"`` (that, and
            most of what the source says, seen through its point spread), ``"soft"`` (the mean of every source pixel to
            within the source's noise) or ``"hard"`` (exactly, its noise included); ``None``: the default of models for
            such slices.
        fwhm: For ``"spread"``: full width at half maximum of the source's point spread in its pixels; ``None``: the one that
            explains each slice best.
        quadtree: ``"paper"`` (one level, the whole slice) or ``"adaptive"`` (several levels, above the noise, in the
            patient only); ``None``: the checkpoint's default.
        threshold: Quadtree threshold s; ``None``: the mode's, else the checkpoint's default for its own quadtree, else the
            quadtree's; 0 refines everything.
        noise_factor: Adaptive only: multiple of the range expected of noise alone; ``None``: the quadtree's default.
        tile: Largest side of a tile in source pixels; ``None``: with a halo and a network that attends to nearby tokens only, 544 at
            x4 and 272 at x8 (a slice of 512 x 512 is then one tile, or four). Else what makes latents of the trained size, 128
            at x4 and 64 at x8: an upstream that attends to a whole tile blurs one larger than any it was trained on.
        fusion: Layout and fusion of tiles: ``"gaussian"`` (as in the paper) or ``"halo"`` (starts on whole windows, tiles as
            equal as that allows, with a short fade); ``None``: the default of models for such slices.
        precision: ``"bfloat16"`` computes the networks' layers in bfloat16 (:func:`torch.autocast`): faster on GPUs,
            much slower on CPUs, and HU differ a little.
        batch_leaves: Active leaves that are computed together, over tiles and slices; ``None``: what suits the device, on
            a CPU 0, that is, tile by tile.
    """

    scale: int = 4
    seed: int = 0
    mode: ModeName | None = None
    steps: int | None = None
    samples: int | None = None
    temperature: float | None = None
    consistency: ConsistencyName | None = None
    fwhm: float | None = None
    quadtree: QuadtreeKind | None = None
    threshold: float | None = None
    noise_factor: float | None = None
    tile: int | None = None
    fusion: FusionName | None = None
    precision: Precision = "float32"
    batch_leaves: int | None = None

    def __post_init__(self) -> None:
        """Reject options with which no checkpoint can be run."""
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")
        if self.batch_leaves is not None and self.batch_leaves < 0:
            raise ConfigError(f"batch_leaves must not be negative, got {self.batch_leaves}")
        if self.samples is not None and self.samples < 1:
            raise ConfigError(f"samples must be at least 1, got {self.samples}")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature must lie in [0, 2], got {self.temperature}")
        if self.fwhm is not None and not 0 <= self.fwhm <= LARGEST_FWHM:
            raise ConfigError(f"fwhm must lie in [0, {LARGEST_FWHM:g}] source pixels, got {self.fwhm}")
        for name, known in _NAMES.items():
            if (given := getattr(self, name)) not in known and given is not None:
                raise ConfigError(f"{name} {given!r} is unknown; known: {', '.join(known)}")

    def settled_for(self, card: ModelCard) -> UpscaleOptions:
        """Fill in every default of mode and model: the options as a run uses them, whoever asked for it.

        Raises:
            CheckpointError: If the model was not trained for the scale.
            ConfigError: If a number is out of range or an option does not fit the model.
        """
        steps, samples, temperature = self.sampling_for(card)
        quadtree = self.quadtree_for(card)
        return replace(
            self,
            mode=self.mode_for(card),
            consistency=self.consistency_for(card),
            fusion=self.fusion_for(card),
            steps=steps,
            samples=samples,
            temperature=temperature,
            quadtree=quadtree.kind,
            threshold=quadtree.threshold,
            noise_factor=quadtree.noise_factor,
            tile=self.tiling_for(card).tile,
        )

    def identity(self) -> tuple[tuple[str, str], ...]:
        """Names and values of all options that pixels depend on; two runs differ if, and only if, these do.

        Meant for settled options, see :meth:`settled_for`; an option that does not apply is left out.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in WITHOUT_EFFECT}
        return tuple((name, _written(value)) for name, value in values.items() if value is not None)

    def mode_for(self, card: ModelCard) -> ModeName:
        """Mode for a model."""
        return self.mode or DEFAULT_MODE[card.purpose]

    def consistency_for(self, card: ModelCard) -> ConsistencyName:
        """Agreement with the source for a model.

        Raises:
            ConfigError: If a point spread is given that nothing asks for.
        """
        consistency = self.consistency or DEFAULT_CONSISTENCY[card.purpose]
        if self.fwhm is not None and consistency != "spread":
            raise ConfigError(f"fwhm belongs to consistency spread, not {consistency}; leave it out or ask for spread")
        return consistency

    def fusion_for(self, card: ModelCard) -> FusionName:
        """Layout and fusion of tiles for a model."""
        return self.fusion or DEFAULT_FUSION[card.purpose]

    def tiling_for(self, card: ModelCard) -> AnyTiling:
        """Tiles for a model.

        Raises:
            ConfigError: If the side of a tile is out of range.
        """
        network = card.require_denoiser()
        trained = network.trained_size * DOWNSAMPLING // self.scale
        if self.fusion_for(card) == "gaussian":
            return Tiling.of(max(Tiling.least, trained) if self.tile is None else self.tile)
        window = max(1, network.window_size * DOWNSAMPLING // self.scale)
        if not network.sees_nearby_only:
            return HaloTiling(max(2 * OVERLAP, trained) if self.tile is None else self.tile, window, OVERLAP)
        nearby = NEARBY_TILE // network.window_size * window
        return HaloTiling(nearby if self.tile is None else self.tile, window)

    def sampling_for(self, card: ModelCard) -> Sampling:
        """Steps, samples and temperature for a model.

        Raises:
            CheckpointError: If the model was not trained for the scale.
        """
        mode = MODES[card.purpose][self.mode_for(card)]
        default_steps = card.steps_for(self.scale)
        of_mode = None if mode.steps is None else min(mode.steps, card.schedule.steps)
        return Sampling(
            steps=next(steps for steps in (self.steps, of_mode, default_steps) if steps is not None),
            samples=self.samples or mode.samples,
            temperature=mode.temperature if self.temperature is None else self.temperature,
        )

    def spread_calibration_for(self, card: ModelCard) -> SpreadCalibration | None:
        """The model's calibration of its samples' spread, if it was measured with the same options.

        That is, steps, temperature and consistency, and the nearest number of samples; the quadtree matters little to it.

        Raises:
            CheckpointError: If the model was not trained for the scale.
        """
        steps, samples, temperature = self.sampling_for(card)
        if temperature != 1:
            return None
        return nearest_calibration(card.calibrations_with(self.consistency_for(card)), self.scale, steps, samples)

    def quadtree_for(self, card: ModelCard) -> Quadtree:
        """Quadtree for a model.

        Raises:
            ConfigError: If a number is out of range, a noise factor is given to the paper's quadtree, or leaves are to be
                chosen for a network without a mask.
        """
        quadtree = self._quadtree(card)
        if card.denoiser is not None and not card.denoiser.has_mask and quadtree.threshold:
            raise ConfigError(
                f"model {card.name} has no mask, every leaf is active; leave quadtree and threshold out or set "
                f"threshold to 0, not {quadtree.threshold:g}"
            )
        return quadtree

    def _quadtree(self, card: ModelCard) -> Quadtree:
        kind = self.quadtree or card.quadtree
        default = card.threshold if kind == card.quadtree else None
        of_mode = MODES[card.purpose][self.mode_for(card)].threshold
        threshold = next((s for s in (self.threshold, of_mode, default) if s is not None), None)
        given = {"threshold": threshold, "noise_factor": self.noise_factor}
        numbers = {name: number for name, number in given.items() if number is not None}
        if kind == "adaptive":
            return AdaptiveQuadtree(**numbers)
        if self.noise_factor is not None:
            raise ConfigError("noise factor belongs to the adaptive quadtree; add --quadtree adaptive or leave it out")
        return PaperQuadtree(**numbers)


def _written(value: object) -> str:
    """Write a value in the shortest form that is read back as the same value.

    >>> _written(1.0), _written(0.15), _written(0.1 + 0.2), _written("local")
    ('1', '0.15', '0.30000000000000004', 'local')
    """
    if isinstance(value, float) and value != float(f"{value:g}"):
        return repr(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
