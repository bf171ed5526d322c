"""Outputs of ``qdm-med upscale`` on small phantoms, as hashes of their stored pixels.

``python -m tests.output_bytes`` writes them to ``tests/golden/output_bytes.json``: only for a change that is meant to
change pixels, and that says so.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import torch
import torch.nn.functional as F
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from qdm_med.checkpoints.model import ModelCard, save_checkpoint
from qdm_med.cli import app
from qdm_med.intensity import CompandedRange
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

GOLDEN = Path(__file__).parent / "golden" / "output_bytes.json"

CASES = {
    "dicom": ("dicom", ""),
    "dicom, mode detailed": ("dicom", "--mode detailed --steps 3 --seed 5"),
    "dicom, mode faithful": ("dicom", "--mode faithful --consistency off"),
    "dicom, adaptive quadtree": ("dicom", "--quadtree adaptive --noise-factor 1.1 --threshold 0.05"),
    "dicom, three samples": ("dicom", "--samples 3 --temperature 0.7 --consistency soft --uncertainty"),
    "dicom, consistency local": ("dicom", "--consistency local"),
    "dicom, x8": ("dicom", "--scale 8 --consistency hard"),
    "dicom, bfloat16": ("dicom", "--precision bfloat16"),
    "nifti": ("volume.nii", ""),
    "nifti, tiles": ("volume.nii", "--tile 32 --threshold 0 --uncertainty --samples 2"),
}
"""A case: its source, and the options it is run with."""


def numerics() -> str:
    """Fingerprint of this machine's float32: the hash of a few layers' results."""
    values = np.random.Generator(np.random.Philox(1)).standard_normal((4, 16, 24, 24)).astype(np.float32)
    image = torch.from_numpy(values)
    mixed = F.conv2d(image, image[:, :, :3, :3].contiguous(), padding=1)
    attended = F.scaled_dot_product_attention(*[image.flatten(2)[:, None].transpose(2, 3)] * 3)
    low = F.conv2d(image.bfloat16(), image[:, :, :3, :3].bfloat16().contiguous()).float()
    results = [mixed, F.gelu(attended), F.interpolate(mixed, scale_factor=4, mode="bicubic"), low]
    digest = hashlib.sha256(b"".join(result.numpy().tobytes() for result in results))
    return digest.hexdigest()[:16]


def write_model(path: Path) -> Path:
    """A tiny model in which no layer is silent; every weight is keyed by its name."""
    card = ModelCard("tiny", TINY_AUTOENCODER, TINY_DENOISER, intensity=CompandedRange(), threshold=0.02, steps=(2, 2))
    networks = KlVae(TINY_AUTOENCODER).eval(), TwoStreamDenoiser(TINY_DENOISER).eval()
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                rng = np.random.Generator(np.random.Philox(zlib.crc32(name.encode())))
                width = (3 / max(1, parameter[0].numel())) ** 0.5 if parameter.dim() > 1 else 0.05
                values = rng.uniform(-width, width, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    save_checkpoint(path, card, *networks)
    return path


def write_sources(folder: Path) -> None:
    """``dicom/`` of three slices, air and padding beside tissue, and ``volume.nii`` of two."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    pixels = dataset.pixel_array
    dataset.Rows, dataset.Columns = 24, 32
    (folder / "dicom").mkdir()
    for index in range(3):
        part = np.ascontiguousarray(pixels[40 + index : 64 + index, 40:72])
        part[:3] = 24  # air: stored 24 is -1000 HU
        dataset.PixelData = part.tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(index)])
        dataset.ImagePositionPatient = [-158.135803, -179.035797, -75.699997 + 5 * index]
        dataset.InstanceNumber = index + 1
        dataset.save_as(folder / "dicom" / f"{index}.dcm")
    rng = np.random.Generator(np.random.Philox(2))
    blocks = rng.integers(-900, 900, (12, 10, 2)).repeat(4, axis=0).repeat(4, axis=1)
    values = (blocks + rng.normal(0, 10, blocks.shape)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([0.7, 0.7, 2.5, 1]))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, folder / "volume.nii")


def stored_hash(path: Path) -> str:
    """SHA-256 of an output's stored pixels, slice by slice in space, and of nothing else in its files."""
    digest = hashlib.sha256()
    if path.is_dir():
        slices = [pydicom.dcmread(file) for file in path.iterdir()]
        for one in sorted(slices, key=_place_mm):
            digest.update(one.get("PixelData") or one.FloatPixelData)
    else:
        digest.update(np.asanyarray(nibabel.load(path).dataobj).tobytes())
    return digest.hexdigest()


def _place_mm(dataset: pydicom.Dataset) -> float:
    if "ImagePositionPatient" in dataset:
        return float(dataset.ImagePositionPatient[2])
    return float(dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2])


def output_hashes(name: str, folder: Path) -> list[str]:
    """Run a case on the files that stand in ``folder``: the hash of its image, and of its uncertainty if it has one."""
    source, options = CASES[name]
    out = folder / f"{sorted(CASES).index(name)}{Path(source).suffix}"
    command = f"qdm-med upscale --series {folder / source} --out {out} --checkpoint {folder / 'tiny.safetensors'}"
    sys.argv = [*command.split(), *options.split(), "--device", "cpu"]
    try:
        app.main()
    except SystemExit as stopped:
        if stopped.code:
            raise RuntimeError(f"{name}: upscale ended with {stopped.code}") from None
    outputs = [out, *folder.glob(f"{out.name.removesuffix('.nii')}-uncertainty*")]
    return [stored_hash(path) for path in outputs]


def main() -> None:
    """Write the golden file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sources(folder)
        write_model(folder / "tiny.safetensors")
        hashes = {case: output_hashes(case, folder) for case in CASES}
    GOLDEN.write_text(json.dumps({"numerics": numerics(), "hashes": hashes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
