"""Make a folder from which a machine without any network installs qdm-med: wheels, checkpoint, hashes, licences, a script.

Usage: python tools/offline_kit.py KIT [--extras cluster,pacs] [--index URL] [--no-dependencies]

``--index https://download.pytorch.org/whl/cpu`` takes PyTorch's wheels without CUDA, a tenth of the size. The kit serves
machines with the operating system, processor and Python version of the one that it is made on; ``--no-dependencies`` leaves
out all wheels but our own.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL = """#!/bin/sh
# Install qdm-med into a new virtual environment, from this folder alone: sh install.sh VENV [options of pip]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
place=${1:?usage: sh install.sh VENV}
shift
(cd "$here" && sha256sum --check --quiet SHA256SUMS)
"${PYTHON:-python3}" -m venv "$place"
# Isolated from the settings of the machine: an index or a proxy that is set there would be asked.
PIP_CONFIG_FILE=/dev/null "$place/bin/pip" --isolated install --quiet --no-index --find-links "$here/wheels" "$@" "qdm-med[EXTRAS]"
echo "installed: $place/bin/qdm-med"
"""


def main() -> None:
    """Make the kit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path)
    parser.add_argument("--extras", default="cluster,pacs")
    parser.add_argument("--index", help="a further package index, such as PyTorch's")
    parser.add_argument("--no-dependencies", action="store_true")
    options = parser.parse_args()
    wheels = options.kit / "wheels"
    shutil.rmtree(options.kit, ignore_errors=True)
    wheels.mkdir(parents=True)
    build_wheel(wheels)
    if not options.no_dependencies:
        (own,) = wheels.glob("qdm_med-*.whl")
        further = ["--extra-index-url", options.index] if options.index else []
        pip("download", "--only-binary", ":all:", "--dest", wheels, *further, f"{own}[{options.extras}]")
    for path in (ROOT / "LICENSE", *sorted((ROOT / "qdm_med" / "weights").glob("*.safetensors"))):
        shutil.copy2(path, options.kit)
    (options.kit / "install.sh").write_text(INSTALL.replace("EXTRAS", options.extras))
    write_licences(options.kit / "licences.csv", wheels)
    write_hashes(options.kit)


def build_wheel(wheels: Path) -> None:
    """Build our own wheel; what an earlier build left behind would get into it, modules that are gone among them."""
    for made in (ROOT / "build" / "lib", *ROOT.glob("build/bdist.*")):
        shutil.rmtree(made, ignore_errors=True)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)


def pip(*arguments: object) -> None:
    """Run pip of this Python."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True)


def write_licences(path: Path, wheels: Path) -> None:
    """Name, version and licence of every wheel, as its metadata state them."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["package", "version", "licence"])
        for wheel in sorted(wheels.glob("*.whl")):
            table.writerow(licence_of(wheel))


def licence_of(wheel: Path) -> list[str]:
    """Name, version and licence of one wheel."""
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        stated = HeaderParser().parsestr(opened.read(name).decode())
    classifiers = [value.rpartition(":: ")[2] for value in stated.get_all("Classifier", []) if "License ::" in value]
    licence = (
        stated["License-Expression"] or "; ".join(classifiers) or (stated["License"] or "not stated").split("\n")[0]
    )
    return [stated["Name"], stated["Version"], licence]


def write_hashes(kit: Path) -> None:
    """SHA-256 of every file, as ``sha256sum --check`` reads it."""
    lines = []
    for path in sorted(path for path in kit.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(kit).as_posix()}\n")
    (kit / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    main()
