"""A tiny GPT that learns to copy and count letters: queries, keys, values and MLP units as neurons.

Run: python examples/tiny_gpt.py [--out FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import nn

import innersight_graph as isg

LETTERS, LENGTH, WIDTH, HEADS = 12, 16, 32, 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        y = self.norm1(x)
        q, k, v = (part(y).view(n, t, HEADS, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(n, t, WIDTH))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class TinyGPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(LETTERS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, LETTERS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]).expand_as(tokens))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def sequences(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A random word, then the same word again: the second half can be predicted by looking back."""
    word = torch.randint(0, LETTERS, (n, LENGTH // 2), generator=generator)
    text = torch.cat([word, word, word[:, :1]], dim=1)
    return text[:, :-1], text[:, 1:]


def main(out: Path, *, quick: bool = False) -> isg.Page:
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    model = TinyGPT()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40 if quick else 600):
        tokens, targets = sequences(64, draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
    model.eval()
    test = sequences(64, draw)
    graph = isg.neuron_graph(model, test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partition = isg.em_communities(graph, range(1, 4 if quick else 9), seed=0)
    report = isg.evaluate(graph, partition, [isg.Ablation(model, test)], nulls=19 if quick else 99, seed=0)
    return isg.to_html(
        graph, partition, out / "tiny_gpt.html", report, title="A tiny GPT that repeats a word", label="EM"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--quick", action="store_true", help="hardly any training, for trying it out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(main(options.out, quick=options.quick))
