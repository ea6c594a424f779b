"""The network made ready to generate: another order of sums, the same function."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_data.workers import Cluster
from teramind_model.generate import GenerateConfig, execute, generate, ready
from teramind_model.generate.config import RunOptions
from teramind_model.generate.parts import Hands
from teramind_model.generate.patches import cut_patches, own_patches
from teramind_model.generate.source import Source
from teramind_model.network.blocks import SliceConv
from teramind_model.network.config import NetworkConfig
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded, PatchUNet
from tests.model.tiny import tiny_atlas, tiny_source


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
    device = next(model.parameters()).device
    t = torch.tensor([1, 500, 999], device=device)
    return x.to(device), t, model.gene_features(counts.float().to(device))


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
    # What they were made from is gone, and they count.
    assert not any("weight" in dict(m.named_parameters()) for m in kept)
    held = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    plain = sum(p.nbytes for p in folded_source().model.parameters())
    assert plain < held < 1.5 * plain
    assert torch.equal(noise(ready.settled(model)), before)


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


def test_what_is_ready_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled network's calls are those of one copy: another copy would have its weights and not use them."""
    monkeypatch.setattr(ready, "_on_gpu", lambda model: True)
    monkeypatch.setattr(ready, "compiled", lambda model: ready_marked(model))
    monkeypatch.setenv("CC", "cc")
    first = ready.made_ready(folded_source(), RunOptions(compile=True))
    assert "encode" in vars(first.model)
    assert ready.made_ready(first, RunOptions(compile=True)) is first


def ready_marked(model: PatchUNet) -> PatchUNet:
    model.encode = model.encode  # type: ignore[method-assign]
    return model


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_on_gpu", lambda model: True)
    monkeypatch.setattr("teramind_model.network.compiler.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(InputError, match="--compile needs a C compiler"):
        ready.made_ready(folded_source(), RunOptions(compile=True))


def test_compiling_is_refused_before_a_store_is_begun(tmp_path: Path) -> None:
    """Also where others would do the work."""
    atlas = tiny_atlas(tmp_path / "a.zarr")
    for hands in (Hands(), Hands(workers=2)):
        out = tmp_path / "g.zarr"
        config = GenerateConfig(
            atlas.url, "phantom", str(out), run=RunOptions("cpu", compile=True), hands=hands
        )
        refused = r"--compile is for methods with a wavefront, on a GPU \(found tera-mind on cpu\)"
        with pytest.raises(InputError, match=refused):
            generate(config, tiny_source())
        assert not out.exists()
    with pytest.raises(InputError, match="--compile is for the wavefront"):
        RunOptions(compile=True, engine="straightforward")


def test_what_is_not_asked_for_is_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = RunOptions(memory=5, batch=7)
    assert RunOptions().on("cpu") == RunOptions(memory=4 << 30, batch=8)
    # Of a device that is not here nothing is asked where all is given.
    assert asked.on("cpu") == asked.on("cuda") == asked
    assert RunOptions().on("cuda", lambda: 9) == RunOptions(memory=9, batch=64)
    sizes = {"cuda": 100, "cuda:0": 100, "cuda:1": 40, "cuda:2": 60}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=sizes[device])
    )
    assert RunOptions().on("cuda:1").memory == 30


def test_memory_is_of_the_smallest_device_and_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"cuda": 100, "cuda:1": 40, "cuda:2": 60}
    monkeypatch.setattr(execute, "memory_of", sizes.__getitem__)
    for hands, room in ((Hands(), 100), (Hands(devices=(1, 2)), 40), (Hands(workers=3), 33)):
        with execute.executor(GenerateConfig("a", "c", "o", hands=hands)) as by:
            assert by.memory("cuda") == room
    workers = {"tcp://a": 70, "tcp://b": 50}
    cluster = object.__new__(Cluster)
    monkeypatch.setattr(Cluster, "ask", lambda self, question: workers)
    assert execute._Elsewhere(GenerateConfig("a", "c", "o"), cluster).memory("cuda") == 50


def test_rows_own_what_they_keep() -> None:
    """A part of a batch is copied, so that the batch goes; a whole one is not."""
    batch = Encoded(torch.arange(24.0).view(6, 4), (torch.arange(12.0).view(6, 2),))
    part = own_patches([cut_patches(batch, 1, 3)])
    assert part.middle.tolist() == batch.middle[1:3].tolist()
    assert part.skips[0].tolist() == batch.skips[0][1:3].tolist()
    assert part.middle.untyped_storage().nbytes() == part.middle.nbytes
    assert own_patches([batch]) is batch
    joined = own_patches([cut_patches(batch, 0, 2), cut_patches(batch, 2, 6)])
    assert torch.equal(joined.middle, batch.middle)
