"""Lange's four similarities against formulas of linear networks, finite differences and plain autograd."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from innersight_graph import InputError, LayeredDiGraph, neuron_graph, similarities, similarity_communities


@pytest.fixture(scope="module")
def linear() -> tuple[nn.Sequential, LayeredDiGraph, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randint(0, 2, (30,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # adjacent linear maps, on purpose
        return model, neuron_graph(model, x), x, y


def test_linear_network_is_the_product_of_its_weights(linear: tuple) -> None:
    model, G, x, _ = linear
    W0, W1, W2 = (layer.weight.detach().numpy() for layer in model)
    up = similarities(model, x, G, kind="sensitivity")
    assert np.allclose(up["0"], W0 @ W0.T)
    assert np.allclose(up["1"], (W1 @ W0) @ (W1 @ W0).T)
    down = similarities(model, x, G, kind="downstream")
    assert np.allclose(down["0"], (W2 @ W1).T @ (W2 @ W1))
    assert np.allclose(down["1"], W2.T @ W2)


def test_covariance_is_numpys(linear: tuple) -> None:
    model, G, x, _ = linear
    h = model[0](x).detach().numpy()
    assert np.allclose(similarities(model, x, G)["0"], np.cov(h.T, bias=True), atol=1e-6)


def test_hessian_is_the_curvature_of_the_loss(linear: tuple) -> None:
    model, G, x, y = linear
    got = similarities(model, (x, y), G, kind="hessian")
    h = model[0](x).detach()

    def loss(z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model[2](model[1](z))[None], target[None])

    each = [torch.autograd.functional.hessian(lambda z, t=t: loss(z, t), row) for row, t in zip(h, y, strict=True)]
    assert np.allclose(got["0"], torch.stack(each).mean(0).numpy())


def test_convolution_moves_as_one_map() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2)).double()
    x = torch.rand(4, 1, 6, 6, dtype=torch.float64)
    G = neuron_graph(model, x)
    maps = model[:2](x).detach()

    def outputs(shift: torch.Tensor) -> torch.Tensor:
        return model[2:](maps + shift[None, :, None, None])

    step, slopes = 1e-5, []
    for i in range(3):
        d = torch.zeros(3, dtype=torch.float64)
        d[i] = step
        slopes.append((outputs(d) - outputs(-d)).detach().numpy() / (2 * step))
    D = np.stack(slopes, axis=2)
    want = np.einsum("soi,soj->ij", D, D) / len(x)
    assert np.allclose(similarities(model, x, G, kind="downstream")["0"], want)


def test_model_is_left_as_it_was_and_the_detector_takes_the_result() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).train()
    x, y = torch.randn(20, 6), torch.randint(0, 3, (20,))
    G = neuron_graph(model, x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for kind in ("covariance", "sensitivity", "downstream", "hessian"):
        S = similarities(model, (x, y), G, kind=kind)
        assert np.allclose(S["0"], S["0"].T)
        assert len(similarity_communities(G, similarities=S, seed=0)) >= 1
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None and not m._forward_hooks for m in model.modules() for p in m.parameters(recurse=False))


def test_bad_input(linear: tuple) -> None:
    model, G, x, _ = linear
    with pytest.raises(InputError, match="covariance"):
        similarities(model, x, G, kind="cosine")
    with pytest.raises(InputError, match="targets"):
        similarities(model, x, G, kind="hessian")
