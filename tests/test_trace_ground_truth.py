"""Traced edges against a numerical truth: cut every unit's output to a fresh leaf and ask what reaches whom."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from innersight_graph.neuronize.layers import make_plan
from innersight_graph.neuronize.record import Trace, Unit
from innersight_graph.neuronize.trace import trace_model

Key = tuple[str, int, bool]
Edges = set[tuple[Key, Key]]

INPUT: Key = ("input", 0, False)


class _Cut:
    """Replace each learnable function by itself followed by a fresh leaf, and record which leaves reach its input."""

    functions = (
        (nn.functional, "linear"),
        (nn.functional, "conv1d"),
        (nn.functional, "conv2d"),
        (nn.functional, "conv3d"),
        (nn.functional, "conv_transpose1d"),
        (nn.functional, "conv_transpose2d"),
        (nn.functional, "conv_transpose3d"),
        (nn.functional, "embedding"),
        (nn.functional, "bilinear"),
        (torch, "addmm"),
    )

    def __init__(self, model: nn.Module) -> None:
        self.names: dict[int, str] = {}
        for name, parameter in sorted(model.named_parameters(remove_duplicate=False), reverse=True):
            self.names[parameter.untyped_storage().data_ptr()] = name
        self.leaves: list[tuple[Key, torch.Tensor]] = []
        self.edges: Edges = set()
        self.generator = torch.Generator().manual_seed(0)

    def _key(self, name: str, weight: torch.Tensor) -> Key | None:
        parameter = self.names.get(weight.untyped_storage().data_ptr())
        if parameter is None:
            return None
        return parameter, weight.storage_offset() // max(weight.stride(0), 1), name == "embedding"

    def _reach(self, key: Key, x: torch.Tensor) -> None:
        if not x.requires_grad:
            return
        direction = torch.randn(x.shape, generator=self.generator, dtype=x.dtype)
        leaves = [leaf for _, leaf in self.leaves]
        grads = torch.autograd.grad((x * direction).sum(), leaves, allow_unused=True, retain_graph=True)
        for (source, _), grad in zip(self.leaves, grads, strict=True):
            if grad is not None and bool((grad != 0).any()):
                self.edges.add((source, key))

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def cut(*args: Any, **kwargs: Any) -> Any:
            given = list(args) + [kwargs[k] for k in ("input", "weight") if k in kwargs]
            x_at, w_at = {"embedding": (0, 1), "bilinear": (0, 2), "addmm": (1, 2)}.get(name, (0, 1))
            x, weight = given[x_at], given[w_at]
            out = original(*args, **kwargs)
            key = self._key(name, weight)
            if key is None:
                return out
            self._reach(key, x)
            if name == "bilinear":
                self._reach(key, given[1])
            leaf = out.detach().requires_grad_()
            self.leaves.append((key, leaf))
            return leaf * 1.0

        return cut

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        originals = [(place, name, getattr(place, name)) for place, name in self.functions]
        try:
            for place, name, original in originals:
                setattr(place, name, self._wrapped(name, original))
            yield
        finally:
            for place, name, original in originals:
                setattr(place, name, original)


def true_edges(model: nn.Module, *args: Any, **kwargs: Any) -> Edges:
    """Edges between layers, measured by gradients alone."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    cut = _Cut(model)
    floats = [x for x in args if isinstance(x, torch.Tensor) and x.is_floating_point()]
    for x in floats:
        x.requires_grad_()
        cut.leaves.append((INPUT, x))
    with cut.installed():
        model(*args, **kwargs)
    for x in floats:
        x.requires_grad_(False)
    return cut.edges


def _unit_key(unit: Unit) -> Key:
    return min(unit.parameters), unit.weight_start, unit.kind == "embedding"


def traced_edges(trace: Trace, *, tokens: bool = False) -> Edges:
    """The same edges as the tracer sees them."""
    owner: dict[int, Key] = {}
    for neurons in trace.inputs:
        if tokens or not neurons.tokens:
            owner.update(dict.fromkeys(range(neurons.first, neurons.first + neurons.count), INPUT))
    for unit in trace.units:
        owner.update(dict.fromkeys(range(unit.first, unit.first + unit.width), _unit_key(unit)))
    edges = set()
    for unit in trace.units:
        for feed in unit.feeds:
            for neuron in trace.sets.neurons_of(np.unique(feed.sources.numpy()).tolist()):
                if neuron in owner:
                    edges.add((owner[neuron], _unit_key(unit)))
    return edges


def check(model: nn.Module, *args: Any, **kwargs: Any) -> Trace:
    model.eval()
    trace = trace_model(model, example=(args, kwargs))
    found, truth = traced_edges(trace), true_edges(model, *args, **kwargs)
    assert found == truth, f"missed {sorted(truth - found)[:5]}, extra {sorted(found - truth)[:5]}"
    assert truth
    make_plan(trace)
    return trace


class UNet(nn.Module):
    """Two scales, transposed convolution, concatenation, a skip from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1, groups=2)
        self.mid = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.fuse, self.out = nn.Conv2d(13, 6, 3, padding=1), nn.Conv2d(6, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = nn.functional.relu(self.down1(x))
        second = nn.functional.relu(self.down2(nn.functional.max_pool2d(first, 2)))
        up = self.up(nn.functional.relu(self.mid(second)))
        return self.out(nn.functional.relu(self.fuse(torch.cat([up, first, x], dim=1)))) + x


TORCHVISION = [
    "resnet18", "densenet121", "shufflenet_v2_x0_5", "swin_t", "convnext_tiny", "efficientnet_b0", "mobilenet_v3_small",
    "googlenet", "squeezenet1_1", "regnet_y_400mf", "mnasnet0_5", "alexnet",
]  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_edges_are_exactly_the_true_ones(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torchvision.models.get_model(name, weights=None)
    trace = check(model, torch.rand(1, 3, 64, 64))
    assert not trace.coverage.unknown_ops or set(trace.coverage.unknown_ops) <= {"aten::as_strided_"}


def test_vision_transformer_and_unet_edges_are_exactly_the_true_ones() -> None:
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    check(VisionTransformer(32, 8, 3, 2, 16, 32), torch.rand(1, 3, 32, 32))
    check(UNet(), torch.rand(1, 3, 16, 16))


def _transformers() -> Any:
    return pytest.importorskip("transformers")


def _tiny(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    t = _transformers()
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "vocab_size": 40,
    }
    ids = torch.arange(1, 8)[None]
    grouped = {**small, "num_key_value_heads": 2}
    made = {
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=4)),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**grouped)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**grouped)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**grouped)),
        "bert": lambda: t.BertModel(t.BertConfig(**small)),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**small, max_position_embeddings=32)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(dim=16, n_layers=2, n_heads=4, hidden_dim=24, vocab_size=40)
        ),
        "electra": lambda: t.ElectraModel(t.ElectraConfig(**small, embedding_size=8)),
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(
                vocab_size=40,
                hidden_size=16,
                num_hidden_layers=2,
                ffn_dim=24,
                num_attention_heads=4,
                word_embed_proj_dim=16,
            )
        ),
        "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**small)),
    }
    if name == "t5":
        config = t.T5Config(
            vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0
        )
        return (
            t.T5ForConditionalGeneration(config),
            (),
            {"input_ids": ids, "decoder_input_ids": ids[:, :5], "use_cache": False},
        )
    if name == "vit":
        config = t.ViTConfig(**{k: v for k, v in small.items() if k != "vocab_size"}, image_size=16, patch_size=4)
        return t.ViTModel(config), (torch.rand(1, 3, 16, 16),), {}
    model = made[name]()
    return model, (ids,), {"use_cache": False} if hasattr(model, "generate") and model.can_generate() else {}


FAMILIES = [
    "gpt2",
    "llama",
    "mistral",
    "qwen2",
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "opt",
    "gpt_neox",
    "t5",
    "vit",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_transformer_edges_are_exactly_the_true_ones(name: str) -> None:
    torch.manual_seed(0)
    model, args, kwargs = _tiny(name)
    trace = check(model, *args, **kwargs)
    assert not trace.coverage.unknown_ops
    assert {"q", "k", "v"} <= set(trace.roles.values())


@pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm"])
def test_mixture_of_experts_is_a_marked_superset(implementation: str) -> None:
    t = _transformers()
    torch.manual_seed(0)
    config = t.MixtralConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
        vocab_size=40, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    model = t.MixtralForCausalLM(config).eval()
    model.config._experts_implementation = implementation
    trace = trace_model(model, example={"input_ids": torch.arange(1, 8)[None], "use_cache": False})
    experts = [unit for unit in trace.units if unit.kind == "experts"]
    assert [unit.width for unit in experts] == [4 * 48, 4 * 16] * 2
    assert trace.coverage.supersets == tuple(unit.name for unit in experts)
    assert not trace.coverage.unknown_ops
    assert not trace.coverage.unreached
    truth = true_edges(model, input_ids=torch.arange(1, 8)[None], use_cache=False)
    found = traced_edges(trace)
    assert truth <= found
    up, down = _unit_key(experts[0]), _unit_key(experts[1])
    assert (up, down) in found
    assert (up, _unit_key(trace.units[-1])) not in found


def test_state_space_model_edges_cover_the_true_ones() -> None:
    t = _transformers()
    torch.manual_seed(0)
    model = t.MambaForCausalLM(t.MambaConfig(vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=2))
    kwargs = {"input_ids": torch.arange(1, 8)[None], "use_cache": False}
    trace = trace_model(model, example=kwargs)
    # The mixer multiplies by dt_proj.weight itself, which the truth cannot cut: its edges alone are extra.
    extra = traced_edges(trace) - true_edges(model, **kwargs)
    assert {key[0].split(".")[-2] for edge in extra for key in edge} <= {"dt_proj", "x_proj", "out_proj"}
    assert true_edges(model, **kwargs) <= traced_edges(trace)
