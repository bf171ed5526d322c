"""Comparison sheet: all methods side by side, whole slices and enlarged regions (arXiv 2503.12015, Figure 9)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qdm_med.errors import ConfigError
from qdm_med.evaluation.cases import Case
from qdm_med.evaluation.evaluate import run_method
from qdm_med.evaluation.measures.metrics import mae_hu
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.report.regions import Region
from qdm_med.evaluation.scoring import Truth
from qdm_med.files import write_whole
from qdm_med.volume import FloatArray

TILE = 256
"""Side of a tile in pixels."""
CAPTION = 34
"""Height of the two lines below a tile."""
MARGIN = 6
_PAPER, _INK, _BOX = 255, 0, (255, 196, 0)


def draw_sheet(cases: Iterable[tuple[Case, Sequence[Region]]], methods: Sequence[Method]) -> Image.Image:
    """Draw a pair of rows a region: whole slices with the box, and the box enlarged.

    Columns are the input, the methods in their order, and the truth. The input's pixels are shown as they are. Below each
    enlarged box stands its mean absolute error in HU.

    Args:
        cases: Cases, each with its regions, at least one in all.
        methods: Run once a case.
    """
    rows = [row for case, regions in cases for row in _rows_of_case(case, regions, methods)]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), (_PAPER,) * 3)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _rows_of_case(case: Case, regions: Sequence[Region], methods: Sequence[Method]) -> list[Image.Image]:
    truth = Truth.of(case).hu
    images = [("input", case.low_hu, case.scale)]
    images += [(method.name, run_method(method, case)[0].hu, 1) for method in methods]
    images.append(("truth", truth, 1))
    return [_row_of_region(case, region, images, truth) for region in regions]


def _row_of_region(
    case: Case, region: Region, images: Sequence[tuple[str, FloatArray, int]], truth: FloatArray
) -> Image.Image:
    pitch = TILE + MARGIN
    row = Image.new("RGB", (len(images) * pitch + MARGIN, 2 * (pitch + CAPTION) + MARGIN), (_PAPER,) * 3)
    for column, (name, hu, scale) in enumerate(images):
        left = MARGIN + column * pitch
        row.paste(_whole(hu, region, truth.shape), (left, MARGIN))
        _write(row, left, MARGIN + TILE, name, _about(case, region) if column == 0 else "")
        row.paste(_tile(region.cut(hu, scale), region), (left, MARGIN + pitch + CAPTION))
        error = mae_hu(region.cut(hu), region.cut(truth)) if scale == 1 and hu is not truth else None
        words = region.label if column == 0 else ("" if error is None else f"MAE {error:.1f} HU")
        _write(row, left, MARGIN + pitch + CAPTION + TILE, words)
    return row


def _about(case: Case, region: Region) -> str:
    return f"slice {case.record.sha256[:8]}, {region.window.centre:g}/{region.window.width:g} HU"


def _whole(hu: FloatArray, region: Region, shape: tuple[int, ...]) -> Image.Image:
    tile = _tile(hu, region)
    size = TILE / max(shape)  # of a pixel of the true slice, whatever the pixels of this image are
    corners = (region.left, region.top, region.left + region.width, region.top + region.height)
    ImageDraw.Draw(tile).rectangle([size * at for at in corners], outline=_BOX)
    return tile


def _tile(hu: FloatArray, region: Region) -> Image.Image:
    grey = Image.fromarray(np.rint((region.window.to_unit(hu) + 1.0) * 127.5).astype(np.uint8))
    # Averages where there are too many pixels, repeats them where there are too few: a sheet invents nothing.
    kind = Image.Resampling.BOX if max(hu.shape) > TILE else Image.Resampling.NEAREST
    rows, columns = (max(1, round(side * TILE / max(hu.shape))) for side in hu.shape)
    tile = Image.new("RGB", (TILE, TILE), (_PAPER,) * 3)
    tile.paste(grey.resize((columns, rows), kind).convert("RGB"))
    return tile


def _write(row: Image.Image, left: int, top: int, *lines: str) -> None:
    font = ImageFont.load_default(12)
    draw = ImageDraw.Draw(row)
    for number, line in enumerate(lines):
        draw.text((left, top + 2 + 15 * number), _fitting(draw, line, font), fill=(_INK,) * 3, font=font)


def _fitting(draw: ImageDraw.ImageDraw, line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a line to the width of a tile."""
    while draw.textlength(line, font=font) > TILE:
        line = line.removesuffix("…")[:-1] + "…"
    return line


def sheet_png(sheet: Image.Image) -> bytes:
    """Encode the sheet as PNG."""
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def save_sheet(png: bytes, path: Path) -> None:
    """Write the bytes of a sheet, whole or not at all.

    Raises:
        ConfigError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(png))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); give another --sheet") from None
