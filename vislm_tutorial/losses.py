"""The formulas that generators are trained by, each once; chapter 4 derives them.

All are means: over the batch, and over pixels or dimensions where the docstring says so.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# --- likelihoods ---------------------------------------------------------------------------------


def gaussian_nll(prediction: Tensor, target: Tensor, std: Tensor | float = 1.0) -> Tensor:
    """-log N(target; prediction, std^2) in nats, the mean over all values; a scalar.

    With a fixed `std` it is MSE / (2 std^2) plus a constant: who minimises the squared error has
    assumed that what the caption leaves open is Gaussian noise around one picture.

    Args:
        prediction, target: any one shape.
        std: a number or a tensor that broadcasts to it, above 0.
    """
    std = torch.as_tensor(std, dtype=prediction.dtype, device=prediction.device)
    nats = ((target - prediction) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2
    return nats.mean()


def pixel_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum_k y_k log softmax(logits)_k in nats, the mean over pixels; a scalar.

    Its gradient in the logits is (softmax(logits) - y) / pixels, and it is least where the
    softmax equals the distribution of y.

    Args:
        logits: (B, K, H, W), K classes a pixel.
        target: (B, H, W) int64 classes, or (B, K, H, W) distributions over them.
    """
    log_p = logits.log_softmax(dim=1)
    if target.ndim == logits.ndim:
        return -(target * log_p).sum(dim=1).mean()
    return -log_p.gather(1, target.unsqueeze(1)).mean()


def discretised_logistic_nll(
    logits: Tensor, means: Tensor, log_scales: Tensor, x: Tensor
) -> Tensor:
    """-log P(x) in nats of pixel values on 256 steps, the mean over values; a scalar.

    P is a mixture of logistic distributions, integrated over each value's bin of width 2/255; the
    outermost bins reach to infinity (Salimans et al. 2017, PixelCNN++, eq. 2). Unlike a categorical
    over 256 names it knows that 127 lies beside 128.

    Args:
        logits, means, log_scales: (..., J), of J components.
        x: (...), in [-1, 1].
    """
    centred = x.unsqueeze(-1) - means
    inverse = torch.exp(-log_scales)
    above, below = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255)
    # log of a difference of sigmoids, which may underflow: s(a) - s(b) = s(a) s(-b) (1 - e^(b - a))
    inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(below - above))
    edge = x.unsqueeze(-1)
    log_p = torch.where(edge < -0.999, F.logsigmoid(above), inside)
    log_p = torch.where(edge > 0.999, F.logsigmoid(-below), log_p)
    return -torch.logsumexp(logits.log_softmax(dim=-1) + log_p, dim=-1).mean()


def bits_per_dim(nats: Tensor | float) -> Tensor | float:
    """The unit in which likelihoods of images are compared: nats a value / log 2."""
    return nats / math.log(2)


# --- variational ---------------------------------------------------------------------------------


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, summed over all but the batch: (B,).

    Kingma & Welling 2014, appendix B. Both arguments are (B, ...).
    """
    each = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
    return each.flatten(1).sum(dim=1)


def negative_elbo(
    prediction: Tensor, target: Tensor, mean: Tensor, log_variance: Tensor, std: Tensor | float
) -> Tensor:
    """-ELBO = -E log p(x | z) + KL(q(z | x) || N(0, 1)) in nats a value of x; a scalar.

    Kingma & Welling 2014, eq. 3, with one sample of z and p(x | z) = N(prediction, std^2).

    Args:
        prediction, target: (B, ...), the decoder's mean and the picture.
        mean, log_variance: (B, ...), of q(z | x).
        std: of p(x | z): fixed, or learned.
    """
    rate = kl_to_standard_normal(mean, log_variance).mean() / target[0].numel()
    return gaussian_nll(prediction, target, std) + rate


# --- adversarial ---------------------------------------------------------------------------------


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(real)) + E max(0, 1 + D(fake)) of scores (B,); a scalar.

    Lim & Ye 2017, eq. 4. Scores beyond the margin have no gradient: they are right enough.
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """-E D(fake) of scores (B,); a scalar."""
    return -fake.mean()


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """E |grad D(x)|^2 / 2 at real pictures; a scalar (Mescheder et al. 2018, eq. 9, gamma = 1).

    Args:
        scores: (B,), computed from `images`.
        images: (B, C, H, W) that require gradients.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2


def optimal_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """p / (p + q) for densities of real and fake data, both (...) >= 0, in [0, 1].

    Goodfellow et al. 2014, proposition 1; the best answer to the *cross entropy* game.
    """
    return real / (real + fake)


# --- flow and guidance ---------------------------------------------------------------------------


def flow_matching(velocity: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """E |velocity - (noise - x0)|^2, the mean over all values; a scalar.

    Lipman et al. 2023, eq. 9, for tensors (B, C, h, w). Its minimiser is the *marginal* velocity,
    though each target belongs to one picture and one noise.
    """
    return F.mse_loss(velocity, noise - x0)


def guided(empty: Tensor, caption: Tensor, scale: float) -> Tensor:
    """empty + scale (caption - empty), of two velocities (B, C, h, w).

    Ho & Salimans 2022, eq. 6, with scale = 1 + their w.
    """
    return empty + scale * (caption - empty)


# --- contrastive ---------------------------------------------------------------------------------


def contrastive(images: Tensor, captions: Tensor, temperature: float = 0.07) -> Tensor:
    """The mean of two cross entropies: which caption is the picture's, which picture the caption's.

    Radford et al. 2021, CLIP, figure 3.

    Args:
        images, captions: (B, D), of any length; row i of one belongs to row i of the other.
        temperature: above 0.
    """
    similarity = F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T / temperature
    own = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2
