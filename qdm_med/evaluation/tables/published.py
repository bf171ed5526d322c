"""Figures that the paper publishes (QDM, arXiv 2503.12015), shown beside ours and never mixed with them.

They were taken on other slices, in the paper's 8-bit window, with another LPIPS backbone: what may be compared is the
order of methods, not the values.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """One method of a table of the paper.

    Attributes:
        method: Name.
        psnr_db: PSNR.
        ssim: SSIM.
        lpips: LPIPS.
    """

    method: str
    psnr_db: float
    ssim: float
    lpips: float


PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "med-sr8": (
        PublishedRow("QDM-L", 33.05, 0.9743, 0.0159),
        PublishedRow("QDM-L, downstream only", 31.75, 0.9685, 0.0181),
        PublishedRow("SeeSR", 26.87, 0.6665, 0.0686),
        PublishedRow("DiffBIR", 23.62, 0.6553, 0.3686),
    ),
}
"""Benchmark -> rows; Med-SR4 has none that we know."""
