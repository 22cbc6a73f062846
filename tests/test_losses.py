"""Each formula against the library's own, at parameters that are not the defaults."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from vislm_tutorial import losses


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def test_gaussian_nll_is_torchs():
    prediction, target, std = torch.randn(5, 3), torch.randn(5, 3), 0.1 + torch.rand(5, 3)
    theirs = F.gaussian_nll_loss(prediction, target, std.square(), full=True)
    torch.testing.assert_close(losses.gaussian_nll(prediction, target, std), theirs)


def test_squared_error_is_a_gaussian_likelihood_with_fixed_deviation():
    a, b, target = torch.randn(3, 5)
    nll, mse = (
        (f(a) - f(b))
        for f in (lambda x: losses.gaussian_nll(x, target, 0.3), lambda x: F.mse_loss(x, target))
    )
    torch.testing.assert_close(nll, mse / (2 * 0.3**2))


@pytest.mark.parametrize("soft", [False, True])
def test_pixel_cross_entropy_is_torchs_and_its_gradient_is_softmax_minus_target(soft):
    logits = torch.randn(2, 5, 4, 3, requires_grad=True)
    target = torch.rand(2, 5, 4, 3).softmax(1) if soft else torch.randint(5, (2, 4, 3))
    loss = losses.pixel_cross_entropy(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target))
    (gradient,) = torch.autograd.grad(loss, logits)
    y = target if soft else F.one_hot(target, 5).movedim(-1, 1)
    torch.testing.assert_close(gradient, (logits.softmax(1) - y) / (2 * 4 * 3))


def test_discretised_logistic_is_a_distribution_over_256_steps():
    values = torch.linspace(-1, 1, 256)
    parts = [torch.randn(3) * s for s in (1.0, 0.5, 2.0)]
    logits, means, log_scales = (part.expand(256, 3) for part in parts)
    each = torch.stack(
        [
            losses.discretised_logistic_nll(logits[i], means[i], log_scales[i] - 2, values[i])
            for i in range(256)
        ]
    )
    torch.testing.assert_close((-each).exp().sum(), torch.tensor(1.0))


def test_a_very_narrow_logistic_has_a_finite_gradient():
    means = torch.zeros(1, 1, requires_grad=True)
    loss = losses.discretised_logistic_nll(
        torch.zeros(1, 1), means, torch.full((1, 1), -7.0), torch.tensor([0.9])
    )
    loss.backward()
    assert loss.isfinite() and means.grad.isfinite().all()


def test_bits_of_a_fair_byte_are_eight():
    assert losses.bits_per_dim(math.log(256)) == pytest.approx(8)


def test_kl_is_torchs():
    mean, log_variance = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    ours = losses.kl_to_standard_normal(mean, log_variance)
    torch.testing.assert_close(ours, theirs.sum(dim=(1, 2)))


def test_elbo_is_a_lower_bound_and_exact_for_the_true_posterior():
    """z ~ N(0, 1), x | z ~ N(a z, s^2): log p(x) and q(z | x) = p(z | x) are known."""
    a, s, x = 0.8, 0.5, torch.tensor([[0.7], [-1.2]])
    log_p = Normal(0.0, math.sqrt(a**2 + s**2)).log_prob(x).mean()
    variance = s**2 / (a**2 + s**2)
    for shift, exact in ((0.0, True), (0.4, False)):
        mean = a * x / (a**2 + s**2) + shift
        draws = 200_000
        z = mean + math.sqrt(variance) * torch.randn(2, draws)  # (2, draws)
        repeat = (2 * draws, 1)
        bound = -losses.negative_elbo(
            (a * z).reshape(repeat),
            x.expand(2, draws).reshape(repeat),
            mean.expand(2, draws).reshape(repeat),
            torch.full(repeat, math.log(variance)),
            s,
        )
        gap = (log_p - bound).item()
        assert (
            abs(gap) < 0.005 if exact else gap == pytest.approx(shift**2 / (2 * variance), abs=0.01)
        )


def test_hinge_has_no_gradient_beyond_the_margin():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.2])
    real.requires_grad_(), fake.requires_grad_()
    loss = losses.discriminator_hinge(real, fake)
    torch.testing.assert_close(loss, torch.tensor((0 + 0.5) / 2 + (0 + 1.2) / 2))
    loss.backward()
    assert real.grad.tolist() == [0, -0.5] and fake.grad.tolist() == [0, 0.5]
    torch.testing.assert_close(losses.generator_hinge(fake), torch.tensor(1.4))


def test_r1_of_a_linear_score_is_half_its_squared_slope():
    images, slope = torch.randn(3, 2, 4, 4, requires_grad=True), torch.randn(2, 4, 4)
    penalty = losses.r1_penalty((images * slope).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, slope.square().sum() / 2)


def test_the_optimal_discriminator_minimises_the_cross_entropy():
    p, q = torch.rand(2, 50)
    best = losses.optimal_discriminator(p, q)

    def game(d):
        return -(p * d.log() + q * (1 - d).log()).sum()

    for step in (-1e-3, 1e-3):
        assert game(best) < game((best + step).clamp(1e-6, 1 - 1e-6))


def test_flow_matching_is_least_at_the_mean_of_the_targets():
    x0, noise = torch.randn(2, 1000, 1, 1, 1)
    velocity = (noise - x0).mean().expand(1000, 1, 1, 1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.flow_matching(velocity, x0, noise), velocity)
    assert abs(gradient.sum()) < 1e-12


def test_contrastive_is_written_out():
    images, captions = torch.randn(6, 5), 3 * torch.randn(6, 5)
    p = torch.exp(torch.cosine_similarity(images[:, None], captions[None], dim=-1) / 0.2)  # (6, 6)
    right = [-math.log(p[i, i] / p[i].sum()) - math.log(p[i, i] / p[:, i].sum()) for i in range(6)]
    ours = losses.contrastive(images, captions, temperature=0.2)
    assert ours.item() == pytest.approx(sum(right) / 12)
