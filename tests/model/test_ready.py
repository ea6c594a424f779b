"""The network made ready to generate: another order of sums, the same function."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.generate import ready
from teramind_model.generate.config import RunOptions
from teramind_model.generate.source import Source
from teramind_model.network.blocks import SliceConv
from teramind_model.network.config import NetworkConfig
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded, PatchUNet
from tests.model.tiny import tiny_source


def folded_source() -> Source:
    """The tiny network with its slices folded, as a GPU has it."""
    source = tiny_source()
    assert isinstance(source.network, NetworkConfig)
    shape = replace(source.network, fold_z=True)
    model = source.method.build(shape)
    model.load_state_dict(source.model.state_dict())
    return replace(source, network=shape, model=model.eval())


def inputs(model: PatchUNet) -> tuple[Tensor, Tensor, GeneFeatures]:
    """Three patches, each at its own step, and their genes' features."""
    c, numbers = model.config, torch.Generator().manual_seed(0)
    x = torch.randn(3, c.stains * c.image_slices, c.patch, c.patch, generator=numbers)
    counts = torch.randint(0, 4, (3, 4, 5, c.bins, c.bins), generator=numbers)
    return x, torch.tensor([1, 500, 999]), model.gene_features(counts.float())


def noise(model: PatchUNet) -> Tensor:
    """What it finds in them."""
    with torch.inference_mode():
        x, t, genes = inputs(model)
        encoded: Encoded = model.encode(x, t, genes)
        return model.decode(encoded, t, genes)


def test_kept_folds_are_those_of_each_call() -> None:
    model = folded_source().model
    assert isinstance(model, PatchUNet)
    before = noise(model)
    ready.settled(model)
    kept = [m for m in model.modules() if isinstance(m, SliceConv) and m._settled is not None]
    assert len(kept) > 40
    assert torch.equal(noise(model), before)
    # They are used: a change of the weights they came from is not seen.
    with torch.no_grad():
        kept[0].weight.mul_(2)
    assert torch.equal(noise(model), before)


def test_unfolded_networks_keep_nothing() -> None:
    model = tiny_source().model
    assert isinstance(model, PatchUNet)
    ready.settled(model)
    assert all(m._settled is None for m in model.modules() if isinstance(m, SliceConv))


def test_compiled_is_traced_once_whatever_the_layout() -> None:
    """By the backend that makes no code; what a GPU's code computes is not seen here."""
    model = folded_source().model
    assert isinstance(model, PatchUNet)
    before, traced = noise(model), []

    def count(graph: torch.fx.GraphModule, examples: object) -> object:
        traced.append(graph)
        return graph.forward

    ready.compiled(model, backend=count)
    assert torch.equal(noise(model), before)
    graphs = len(traced)
    assert graphs >= 2
    with torch.inference_mode():
        x, t, genes = inputs(model)
        odd = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        assert odd.stride() != x.stride()
        encoded = model.encode(odd, t, genes)
        assert torch.equal(model.decode(encoded, t, genes), before)
    assert len(traced) == graphs


def test_on_a_gpu_weights_have_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is cast, and computes without autocast; the source itself stays as it was."""
    monkeypatch.setattr(ready, "_on_gpu", lambda model: True)
    source = folded_source()
    exact = noise(source.model)
    rough = ready.made_ready(source, RunOptions(precision="bfloat16")).model
    assert next(rough.parameters()).dtype == torch.bfloat16
    assert next(source.model.parameters()).dtype == torch.float32
    with ready.computing(rough, "bfloat16"):
        assert not torch.is_autocast_enabled("cpu")
    with ready.computing(source.model, "bfloat16"):
        assert torch.is_autocast_enabled("cpu")
    found = noise(rough)
    assert found.dtype == torch.float32
    apart = ((found - exact).norm() / exact.norm()).item()
    assert 0 < apart < 0.03
    assert torch.equal(noise(ready.made_ready(source, RunOptions()).model), exact)


def test_a_cpu_runs_it_as_it_is() -> None:
    source = tiny_source()
    assert ready.made_ready(source, RunOptions(precision="bfloat16")) is source


def test_compiling_is_refused_where_it_is_of_no_use() -> None:
    with pytest.raises(
        InputError, match="--compile is for methods with a wavefront, on a GPU.*tera-mind on cpu"
    ):
        ready.made_ready(tiny_source(), RunOptions(compile=True))
    with pytest.raises(InputError, match="--compile is for the wavefront"):
        RunOptions(compile=True, engine="straightforward")


def test_what_is_not_asked_for_is_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = RunOptions(memory=5, batch=7)
    assert RunOptions().on("cpu") == RunOptions(memory=4 << 30, batch=16)
    assert asked.on("cpu") == asked
    whole = SimpleNamespace(total_memory=100 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: whole)
    assert RunOptions().on("cuda:1") == RunOptions(memory=85 << 30, batch=64)
    assert asked.on("cuda") == asked
