"""Discriminator that an autoencoder is trained against: PatchGAN, with the losses of both sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qdm_med import distributed

WEIGHT_LIMIT = 1e4
"""Largest adaptive weight: a discriminator whose gradient vanishes would else drown every other loss."""

NO_GRADIENT = 1e-6
"""Added to the norm by which an adaptive weight is divided (VQGAN's delta, arXiv 2012.09841, Eq. 7)."""


class PatchAdversary(nn.Module):
    """Judge of patches of an image, real or made (PatchGAN, arXiv 1611.07004; least squares, arXiv 1611.04076).

    MONAI's ``PatchDiscriminator`` and ``PatchAdversarialLoss``. It is normalised image by image: over a batch, a step
    would depend on how the batch is shared among processes and parts, and one image's loss on the others.

    Args:
        image_channels: Channels of the images.
        channels: Width of the first layer; each further one doubles it.
        layers: Layers behind the first; three see patches of 70 pixels.
    """

    def __init__(self, image_channels: int, channels: int, layers: int) -> None:
        super().__init__()
        # MONAI takes seconds to import, and a run without a discriminator needs neither of these.
        from monai.losses.adversarial_loss import PatchAdversarialLoss
        from monai.networks.nets.patchgan_discriminator import PatchDiscriminator

        self.discriminator = PatchDiscriminator(
            spatial_dims=2,
            channels=channels,
            in_channels=image_channels,
            num_layers_d=layers,
            norm=("instance", {"affine": True}),
        )
        self._loss = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    @staticmethod
    def smallest_side(layers: int) -> int:
        """Smallest usable side in pixels: below it the last layers have no patch, or one pixel to normalise over."""
        return int(3 * 2**layers)

    def deceived(self, made: Tensor) -> Tensor:
        """Loss of the maker: how far ``(B, C, H, W)`` images are from passing for real.

        Its gradient goes to the images alone, not to the discriminator.
        """
        weights = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        judged = torch.func.functional_call(self.discriminator, weights, (made,))[-1]
        loss: Tensor = self._loss(judged, target_is_real=True, for_discriminator=False)
        return loss

    def told_apart(self, real: Tensor, made: Tensor) -> Tensor:
        """Loss of the discriminator: how far it is from telling ``(B, C, H, W)`` real images from made ones.

        Its gradient goes to the discriminator alone, not to the images.
        """
        on_real: Tensor = self._loss(self.discriminator(real.detach())[-1], target_is_real=True, for_discriminator=True)
        on_made: Tensor = self._loss(
            self.discriminator(made.detach())[-1], target_is_real=False, for_discriminator=True
        )
        return (on_real + on_made) / 2


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Weight of the adversarial loss at which both losses pull equally hard at the last layer (VQGAN, Eq. 7).

    ``lambda = |grad L_rec| / (|grad L_GAN| + delta)``, gradients at the weights of the decoder's last layer. Processes
    that share a batch evenly use the weight of the whole batch.

    Args:
        reconstruction: Scalar loss ``L_rec``, whose graph is kept.
        adversarial: Scalar loss ``L_GAN``, whose graph is kept.
        last_layer: Weights that made the image.

    Returns:
        Scalar without a gradient, at most :data:`WEIGHT_LIMIT`.
    """
    norms = []
    for loss in (reconstruction, adversarial):
        (own,) = torch.autograd.grad(loss, last_layer, retain_graph=True)
        norms.append((distributed.reduce_sum(own.float()) / distributed.world_size()).norm())
    return (norms[0] / (norms[1] + NO_GRADIENT)).clamp(max=WEIGHT_LIMIT)
