"""The codebook: nearest entries, the straight-through gradient, where it begins, what it learns."""

from __future__ import annotations

import pytest
import torch

from vislm_tutorial.data import render, sample_scenes
from vislm_tutorial.generators import (
    Autoencoder,
    CodebookConfig,
    CodebookObjective,
    VQAutoencoder,
)
from vislm_tutorial.generators.vq import as_cells, k_means, nearest, straight_through

SHAPE = {"channels": (8, 8), "latent_channels": 4, "norm_groups": 4}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model() -> VQAutoencoder:
    torch.manual_seed(0)
    return VQAutoencoder(codes=16, **SHAPE)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return render(sample_scenes(12, 0), 32)


def test_nearest_is_what_distances_say():
    cells, codebook = torch.randn(50, 3, generator=seeded()), torch.randn(7, 3, generator=seeded(1))
    expected = torch.cdist(cells, codebook).argmin(dim=1)
    assert torch.equal(nearest(cells, codebook), expected)
    assert torch.equal(nearest(cells, codebook, chunk=8), expected)
    assert len(expected.unique()) > 3


def test_codes_and_entries_stand_where_their_cells_stood(model):
    latents = torch.randn(3, 4, 2, 5, generator=seeded())
    entries, codes = model.quantise(latents)
    assert entries.shape == latents.shape and codes.shape == (3, 2, 5)
    distance = (model.codebook - latents[1, :, 0, 3]).square().sum(dim=1)
    assert codes[1, 0, 3] == distance.argmin()
    assert torch.equal(entries[1, :, 0, 3], model.codebook[codes[1, 0, 3]])
    assert torch.equal(model.entries(codes), entries)


def test_an_entry_is_its_own_code(model):
    codes = torch.randint(16, (2, 3, 3), generator=seeded())
    assert torch.equal(model.quantise(model.entries(codes))[1], codes)


def test_straight_through_rounds_forward_and_lets_the_gradient_pass():
    cells = torch.randn(4, 3, generator=seeded(), requires_grad=True)
    entries = torch.randn(4, 3, generator=seeded(1), requires_grad=True)
    weight = torch.randn(4, 3, generator=seeded(2))
    rounded = straight_through(cells, entries)
    torch.testing.assert_close(rounded, entries)
    (rounded * weight).sum().backward()
    assert torch.equal(cells.grad, weight)
    assert entries.grad is None


def test_pictures_go_through_codes(model, images):
    codes = model.encode_codes(images)
    assert codes.shape == (12, 4, 4) and codes.dtype == torch.int64
    assert 0 <= codes.min() and codes.max() < 16
    drawn = model.decode_codes(codes)
    assert drawn.shape == images.shape and drawn.abs().max() <= 1
    torch.testing.assert_close(model.decode(model.encode(images)), drawn)


def test_objective_is_distortion_pull_and_commitment(model, images):
    """Each term written out, with weights that are not the defaults."""
    config = CodebookConfig(codes=16, commitment=0.7, pixel_std=0.2)
    with torch.no_grad():
        cells = Autoencoder.encode(model, images)
        entries, _ = model.quantise(cells)
        z = entries * model.latent_std[:, None, None] + model.latent_mean[:, None, None]
        mse = (model.reconstruct(z) - images).square().mean()
        gap = (cells - entries).square().mean()
    loss = CodebookObjective(model, config)({"image": images})
    torch.testing.assert_close(loss, mse / (2 * 0.04) + gap + 0.7 * gap)


def test_gradients_go_where_they_should(model, images):
    """The codebook learns from its pull alone, the encoder through the rounding."""
    CodebookObjective(model, CodebookConfig(codes=16))({"image": images}).backward()
    with torch.no_grad():
        cells = as_cells(Autoencoder.encode(model, images))
        chosen = nearest(cells, model.codebook)
        pulls = torch.zeros_like(model.codebook)
        pulls.index_add_(0, chosen, 2 * (model.codebook[chosen] - cells) / cells.numel())
    torch.testing.assert_close(model.codebook.grad, pulls)
    for name in ("encoder", "decoder"):
        part = getattr(model, name)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()), name


def test_k_means_finds_clusters():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    cells = centres.repeat(30, 1) + 0.1 * torch.randn(90, 2, generator=seeded())
    found = k_means(cells, 3, seeded(4))
    assert torch.cdist(centres, found).min(dim=1).values.max() < 0.1


def test_k_means_leaves_no_centre_unused():
    cells = torch.randn(400, 4, generator=seeded())
    found = k_means(cells, 64, seeded(1))
    assert len(nearest(cells, found).unique()) == 64


def test_k_means_wants_more_cells_than_centres():
    with pytest.raises(ValueError, match="3 cells cannot fill a codebook of 4"):
        k_means(torch.randn(3, 2), 4, seeded())


def test_begins_as_a_trained_autoencoder(images):
    torch.manual_seed(1)
    trained = Autoencoder(**SHAPE)
    trained.calibrate(images)
    model = VQAutoencoder.from_autoencoder(trained, 100, images, seeded())
    torch.testing.assert_close(Autoencoder.encode(model, images), trained.encode(images))
    error = (model.encode(images) - trained.encode(images)).square().mean()
    assert error < 0.3  # of latents whose variance is 1
    with pytest.raises(ValueError, match="192 cells"):
        VQAutoencoder.from_autoencoder(trained, 200, images, seeded())


def test_learns_to_draw_from_codes(images):
    torch.manual_seed(0)
    trained = Autoencoder(**SHAPE)
    trained.calibrate(images)
    model = VQAutoencoder.from_autoencoder(trained, 64, images, seeded())
    objective = CodebookObjective(model, CodebookConfig(codes=64))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        loss = objective({"image": images})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_saves_and_loads(model, images, tmp_path):
    model.save_pretrained(tmp_path)
    again = VQAutoencoder.from_pretrained(tmp_path)
    assert again.config.codes == 16 and again.config.latent_channels == 4
    assert torch.equal(again.encode_codes(images), model.encode_codes(images))
