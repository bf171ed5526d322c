"""Other models on the autoencoder of the checkpoint under test: ResShift, latent diffusion, or another QDM.

They are trained with ``qdm-med train --model`` and run as :class:`qdm_med.evaluation.methods.qdm.Qdm`; what sets them apart,
network and schedule, their cards tell. On the same autoencoder a comparison is one of the diffusion alone.
"""

from __future__ import annotations

from pathlib import Path

from qdm_med.checkpoints.model import Checkpoint, load_checkpoint
from qdm_med.errors import CheckpointError


def load_latent_model(path: Path, under_test: Checkpoint) -> Checkpoint:
    """Read a model to compare with ``under_test``.

    Raises:
        CheckpointError: If the file is invalid, or its autoencoder is another one.
    """
    model = load_checkpoint(path)
    if not model.shares_autoencoder(under_test):
        raise CheckpointError(
            f"{path}: model {model.card.name} has another autoencoder than {under_test.card.name}; "
            "train it with --vae set to the checkpoint that it is compared with"
        )
    return model
