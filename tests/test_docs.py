"""Every public name says what it takes, gives and raises, where it comes from, and its example runs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import innersight_graph as isg

NAMES = [name for name in isg.__all__ if not name.startswith("__")]
SECTIONS = {
    "Parameters", "Returns", "Yields", "Raises", "Warns", "Notes", "References", "Examples", "Attributes", "See Also",
    "Methods",
}  # fmt: skip
SOURCE = re.compile(r"paper|Eq\. ?\d|doi|Definition \d|Algorithm \d|[Tt]able \d|arXiv|jstor|:doi:|\d{4}\)|et al|& ")
# What a method of the literature is called by; controls and plumbing have no source.
FROM_LITERATURE = re.compile(r"_communities$|Mixture$|^(balance|binarize|project_layer|rank_sum|mcnemar|holm)$")
CONTROLS = {"random_communities", "degree_communities", "coactivation_communities"}
EVALUATORS = {"Ablation", "Consistency", "Occlusion", "PartitionScore", "Sensitivity", "Structure"}


def sections(text: str) -> dict[str, str]:
    """Return the numpydoc sections of a docstring by title; the text before the first is ''."""
    found: dict[str, list[str]] = {"": []}
    lines = text.splitlines()
    title = ""
    for i, line in enumerate(lines):
        under = lines[i + 1].strip() if i + 1 < len(lines) else ""
        if line.strip() in SECTIONS and under and set(under) == {"-"}:
            title = line.strip()
            found[title] = []
        elif not (line.strip() and set(line.strip()) == {"-"}):
            found[title].append(line)
    return {name: "\n".join(body) for name, body in found.items()}


def described(body: str) -> set[str]:
    """Return the names a Parameters or Attributes section describes: `a, b : type`, `*args`."""
    found = set()
    for line in textwrap.dedent(body).splitlines():
        if line and not line[0].isspace():
            found |= {part.strip().lstrip("*") for part in line.split(" : ")[0].split(",")}
    return found


def raises(function: Callable[..., Any]) -> bool:
    """Tell whether the function's own body raises an error of this package."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    errors = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    return any(ast.unparse(error).split("(")[0].split(".")[-1].endswith("Error") for error in errors)


def functions() -> list[str]:
    return [name for name in NAMES if inspect.isfunction(inspect.unwrap(getattr(isg, name)))]


def classes() -> list[str]:
    return [name for name in NAMES if inspect.isclass(getattr(isg, name))]


@pytest.mark.parametrize("name", NAMES)
def test_a_first_line_says_what_it_is(name: str) -> None:
    text = inspect.getdoc(getattr(isg, name)) or ""
    first = text.split("\n\n")[0].replace("\n", " ")
    assert 10 < len(first) < 200, first
    assert first.endswith((".", ":")), first


@pytest.mark.parametrize("name", functions())
def test_a_function_describes_what_it_takes_gives_and_raises(name: str) -> None:
    function = inspect.unwrap(getattr(isg, name))
    found = sections(inspect.getdoc(function) or "")
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    missing = set(signature.parameters) - described(found.get("Parameters", ""))
    # "Parameters as `other`" is a description of all of them.
    if not re.search(r"Parameters as (`\w+`|there)", found[""]):
        assert missing == set(), f"not described: {sorted(missing)}"
        if signature.return_annotation not in (None, "None"):
            assert {"Returns", "Yields"} & set(found), "no Returns"
        if raises(function):
            assert "Raises" in found or re.search(r"[Rr]aises?\b|refused|Error", found[""]), "no Raises"


@pytest.mark.parametrize("name", functions())
def test_an_array_is_given_with_its_shape(name: str) -> None:
    function = inspect.unwrap(getattr(isg, name))
    found = sections(inspect.getdoc(function) or "")
    for parameter in inspect.signature(function).parameters.values():
        if re.search(r"ArrayLike|NDArray|ndarray", str(parameter.annotation)):
            body = found.get("Parameters", "")
            assert re.search(r"shape|scalar|one (per|for each)|\(n", body), f"{parameter.name} has no shape"


@pytest.mark.parametrize("name", classes())
def test_a_class_describes_its_fields_or_parameters(name: str) -> None:
    kind = getattr(isg, name)
    found = sections(inspect.getdoc(kind) or "")
    if issubclass(kind, BaseException) or issubclass(kind, dict):
        return
    body = found.get("Attributes", "") + "\n" + found.get("Parameters", "")
    if dataclasses.is_dataclass(kind):
        missing = {f.name for f in dataclasses.fields(kind) if not f.name.startswith("_")} - described(body)
    elif hasattr(kind, "_fields"):
        missing = set(kind._fields) - described(body)
    elif kind.__init__ is not object.__init__ and "__init__" in vars(kind):
        missing = set(inspect.signature(kind).parameters) - described(body)
    else:
        missing = set()
    # A record may tell its fields in its text.
    missing = {field for field in missing if not re.search(rf"`{field}\b|``{field}``", inspect.getdoc(kind) or "")}
    assert missing == set(), f"not described: {sorted(missing)}"


@pytest.mark.parametrize("name", classes())
def test_every_public_method_has_a_docstring(name: str) -> None:
    kind = getattr(isg, name)
    for method, function in vars(kind).items():
        if (
            not method.startswith("_")
            and inspect.isfunction(function)
            and function.__module__.startswith("innersight_graph")
        ):
            assert (inspect.getdoc(function) or "").strip(), f"{name}.{method}"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if (FROM_LITERATURE.search(name) or name in EVALUATORS) and name not in CONTROLS]
)
def test_a_method_of_the_literature_names_its_source(name: str) -> None:
    assert SOURCE.search(inspect.getdoc(getattr(isg, name)) or "")


@pytest.mark.parametrize("name", [name for name in functions() if name.endswith("_communities")])
def test_a_detector_has_an_example_and_the_common_options(name: str) -> None:
    function = getattr(isg, name)
    options = inspect.signature(function).parameters
    first = next(iter(options))
    assert first in {"G", "model", "partitions"}
    assert first == "model" or ">>> " in (inspect.getdoc(function) or "")
    if first == "G":
        assert options["seed"].kind is inspect.Parameter.KEYWORD_ONLY
        assert options["layers"].kind is inspect.Parameter.KEYWORD_ONLY
        assert options["layers"].default is options["seed"].default is None
