"""The training example of brain-inspired modular training: trades of places change the cost and nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from innersight_graph.detection.geometric import connection_cost

PATH = Path(__file__).resolve().parent.parent / "examples" / "bimt_training.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bimt_training", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_trading_places_leaves_the_function_alone(example: ModuleType) -> None:
    model = example.make_model()
    inputs = torch.rand(20, 64)
    with torch.no_grad():
        clean = model(inputs)
        example.swap_neurons(model, 0, 3, 40)
        example.swap_neurons(model, 1, 0, 23)
        assert torch.allclose(clean, model(inputs), atol=1e-5)
        before = float(example.connection_cost(model))
        swaps = example.swap_step(model, candidates=10)
        assert swaps > 0
        assert float(example.connection_cost(model)) < before
        assert torch.allclose(clean, model(inputs), atol=1e-5)


def test_the_example_and_the_package_mean_the_same_cost(example: ModuleType) -> None:
    model = example.make_model()
    linears = example.linears(model)
    with torch.no_grad():
        for linear in linears:
            linear.bias.zero_()
    names = [f"l{i}" for i in range(len(linears) + 1)]
    weights = {
        (a, b): linear.weight.detach().numpy().T.astype(float)
        for a, b, linear in zip(names[:-1], names[1:], linears, strict=True)
    }
    widths = [linears[0].in_features, *(linear.out_features for linear in linears)]
    positions = {name: example.place(width).numpy().astype(float) for name, width in zip(names, widths, strict=True)}
    assert float(example.connection_cost(model).detach()) == pytest.approx(
        connection_cost(weights, positions), rel=1e-5
    )
