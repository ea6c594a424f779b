"""Which kernels compute the network: flash-attn's dispatch, versions known to be wrong, torch.compile, layouts."""

from __future__ import annotations

import shutil
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.baselines.patch_dm import PatchDMShape
from teramind_model.baselines.shape import BaselineShape
from teramind_model.baselines.sinfusion import SinFusionShape
from teramind_model.network import NetworkConfig, TeraMind
from teramind_model.network import attention_kernels as kernels
from teramind_model.network.blocks import SliceConv
from teramind_model.network.known_traps import KnownTrapWarning, Versions, convolution_trap, warn_of_traps

TINY = NetworkConfig(3, patch=32, channels=4, gene_widths=(4, 3, 2), time_width=8, dropout=0.0, fold_z=True)


def random_tiny() -> TeraMind:
    """Weights of which none is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = TeraMind(TINY).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5)
    return model


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / d) v in float32."""
    q, k, v = q.float(), k.float(), v.float()
    return torch.softmax(q @ k.transpose(1, 2) / q.shape[-1], dim=-1) @ v


def qkv(head: int, dtype: torch.dtype = torch.bfloat16, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    # Sharp: with 1/d as the scale, unit numbers would give a softmax that is all but uniform.
    q, k, v = (torch.randn(2, n, head, generator=generator) for n in (24, 12, 12))
    return tuple((s * part).to(device, dtype) for s, part in ((head**0.25, q), (head**0.25, k), (1.0, v)))  # type: ignore[return-value]


class FakeFlash:
    """A `flash_attn` that computes plainly and remembers its calls; every device serves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[float] = []
        module = types.ModuleType("flash_attn")
        module.flash_attn_func = self.attend  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flash_attn", module)
        monkeypatch.setattr(kernels, "_device_serves", lambda device: True)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, softmax_scale: float) -> Tensor:
        assert q.dim() == 4
        assert q.shape[2] == 1  # (b, tokens, heads, c)
        self.calls.append(softmax_scale)
        return explicit(q[:, :, 0], k[:, :, 0], v[:, :, 0]).to(q.dtype).unsqueeze(2)


@pytest.fixture(autouse=True)
def _fresh_caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    caches = (kernels._flash_function, kernels._flash_is_faster)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def timed(sdpa: float, flash: float) -> Callable[..., float]:
    def milliseconds(kernel: object, *_: object) -> float:
        return flash if kernel is kernels._flash else sdpa

    return milliseconds


def test_flash_is_taken_where_supported_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFlash(monkeypatch)
    monkeypatch.setattr(kernels, "_milliseconds", timed(2.0, 1.0))
    q, k, v = qkv(64)
    out = kernels.single_head(q, k, v)
    assert fake.calls == [1 / 64]
    theirs = kernels._sdpa(q, k, v)
    assert (out - theirs).abs().max() <= kernels.TOLERANCE[q.dtype] * theirs.abs().max()
    assert theirs.float().std() > 0.1


@pytest.mark.parametrize("flash_ms", [1.0, 0.95, 3.0])
def test_flash_is_left_where_not_clearly_faster(flash_ms: float, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFlash(monkeypatch)
    monkeypatch.setattr(kernels, "_milliseconds", timed(1.0, flash_ms))
    q, k, v = qkv(64)
    assert torch.equal(kernels.single_head(q, k, v), kernels._sdpa(q, k, v))
    assert fake.calls == []


@pytest.mark.parametrize(
    ("head", "dtype", "supported"),
    [
        (256, torch.bfloat16, True),
        (64, torch.float16, True),
        (512, torch.bfloat16, False),  # the middle block of the published networks
        (20, torch.bfloat16, False),
        (64, torch.float32, False),
    ],
)
def test_what_flash_supports(
    head: int, dtype: torch.dtype, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeFlash(monkeypatch)
    monkeypatch.setenv(kernels.VARIABLE, "flash")
    kernels.single_head(*qkv(head, dtype))
    assert bool(fake.calls) is supported


def test_types_that_differ_are_not_for_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeFlash(monkeypatch)
    q, k, v = qkv(64)
    assert kernels.flash_supports(q, k, v)
    assert not kernels.flash_supports(q, k, v.float())


def test_sdpa_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFlash(monkeypatch)
    monkeypatch.setattr(kernels, "_milliseconds", timed(2.0, 1.0))
    monkeypatch.setenv(kernels.VARIABLE, "sdpa")
    kernels.single_head(*qkv(64))
    assert fake.calls == []


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # as if not installed
    monkeypatch.setattr(kernels, "_device_serves", lambda device: True)
    q, k, v = qkv(64)
    assert not kernels.flash_supports(q, k, v)
    assert torch.equal(kernels.single_head(q, k, v), kernels._sdpa(q, k, v))
    monkeypatch.setenv(kernels.VARIABLE, "flash")
    with pytest.raises(
        InputError, match=r"not installed: TERAMIND_ATTENTION\. Install teramind-model\[flash\]"
    ):
        kernels.single_head(q, k, v)
    monkeypatch.setenv(kernels.VARIABLE, "fast")
    with pytest.raises(InputError, match="expected auto, flash, sdpa, found fast"):
        kernels.single_head(q, k, v)


def test_a_package_built_for_another_torch_is_said_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", types.ModuleType("flash_attn"))
    monkeypatch.setattr(kernels, "_device_serves", lambda device: True)
    assert not kernels.flash_supports(*qkv(64))
    assert "does not load" in caplog.text


def test_on_a_cpu_flash_is_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_flash_function", lambda: pytest.fail("loaded"))
    kernels.single_head(*qkv(64))


def test_the_whole_network_through_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFlash(monkeypatch)
    model = random_tiny().to(torch.bfloat16)
    x = torch.randn((4, 4, 32, 32), generator=torch.Generator().manual_seed(0))
    counts = torch.ones(4, 4, 3, 2, 2)
    with torch.no_grad():
        monkeypatch.setenv(kernels.VARIABLE, "sdpa")
        plain = model(x, torch.tensor([5]), counts)[1]
        monkeypatch.setenv(kernels.VARIABLE, "flash")
        flashed = model(x, torch.tensor([5]), counts)[1]
    assert set(fake.calls) == {1 / 16, 1 / 8, 1 / 32}  # d of genes, of the attention level, of the middle
    # bfloat16 through some forty layers: single pixels may differ by more, the picture must not.
    assert (plain - flashed).abs().mean() < 0.05 * plain.std()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head", [64, 256])
def test_flash_equals_pytorch(head: int, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    q, k, v = (part.requires_grad_() for part in qkv(head, dtype, "cuda"))
    ours, theirs = kernels._sdpa(q, k, v), kernels._flash(q, k, v)
    limit = kernels.TOLERANCE[dtype]
    assert (ours - theirs).abs().max() <= limit * ours.abs().max()
    for a, b in zip(*(torch.autograd.grad(o.square().sum(), (q, k, v)) for o in (ours, theirs)), strict=True):
        assert (a - b).abs().max() <= 4 * limit * a.abs().max()


@pytest.mark.parametrize(
    ("torch_version", "cudnn", "trap"),
    [
        ((2, 8, 0), 90800, "wrong on cuDNN 9.8.0"),
        ((2, 8, 0), 91002, "wrong on cuDNN 9.10.2"),
        ((2, 8, 0), 91300, None),
        ((2, 8, 0), 90701, None),
        ((2, 9, 0), 91500, "memory with PyTorch 2.9.0"),
        ((2, 9, 1), 91300, "memory with PyTorch 2.9.1 and cuDNN 9.13.0"),
        ((2, 9, 1), 91500, None),
        ((2, 13, 0), 91002, "memory with PyTorch 2.13.0"),
        ((2, 13, 0), 92100, None),
        ((2, 13, 0), None, None),
    ],
)
def test_known_traps(torch_version: tuple[int, int, int], cudnn: int | None, trap: str | None) -> None:
    found = convolution_trap(Versions(torch_version, cudnn))
    assert found is None if trap is None else trap in str(found)


@pytest.mark.parametrize("shape", [NetworkConfig, PatchDMShape, SinFusionShape])
def test_the_warning_is_given_only_where_it_matters(shape: Any) -> None:
    bad, network = Versions((2, 8, 0), 91002), shape(229)
    with pytest.warns(
        KnownTrapWarning, match=r"bfloat16 is wrong on cuDNN 9\.10\.2 .* Use --fold-z"
    ) as caught:
        text = warn_of_traps("cuda", torch.bfloat16, network, bad)
    assert str(caught[0].message) == text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_traps("cpu", torch.bfloat16, network, bad) is None
        assert warn_of_traps("cuda", torch.float32, network, bad) is None
        assert warn_of_traps("cuda:1", torch.bfloat16, replace(network, fold_z=True), bad) is None
        assert warn_of_traps("cuda", torch.bfloat16, replace(network, gene_slices=1), bad) is None
        assert warn_of_traps("cuda", torch.bfloat16, BaselineShape(229), bad) is None  # no fold_z
    assert Versions.installed().torch >= (2, 10, 0)


@pytest.mark.parametrize(
    "config", [TINY, NetworkConfig(3, 1, 2, 32, 4, (4, 3, 2), 8)], ids=["folded", "one slice"]
)
def test_no_3d_convolution_where_the_warning_is_not_given(
    config: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a 3-D convolution ran")

    monkeypatch.setattr(torch.nn.functional, "conv3d", refuse)
    model = TeraMind(config)
    bins = (4, config.gene_slices, 3, 2, 2)
    model(torch.zeros(4, 2 * config.image_slices, 32, 32), torch.tensor([1]), torch.zeros(bins))


def test_folded_convolutions_copy_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels stay last: what goes into and comes out of the 2-D convolution is the feature map's own memory."""
    seen: list[Tensor] = []
    convolve = torch.nn.functional.conv2d

    def watched(flat: Tensor, weight: Tensor, *rest: object, **options: object) -> Tensor:
        assert flat.is_contiguous(memory_format=torch.channels_last)
        assert weight.is_contiguous(memory_format=torch.channels_last)
        out: Tensor = convolve(flat, weight, *rest, **options)  # type: ignore[arg-type]
        seen.extend((flat, out))
        return out

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    x = torch.randn(2, 8, 8, 2, 4)
    out = SliceConv(4, 6, (3, 3, 3), fold=True)(x)
    assert [t.untyped_storage().data_ptr() for t in seen] == [
        t.untyped_storage().data_ptr() for t in (x, out)
    ]


needs_compiler = pytest.mark.skipif(
    not any(shutil.which(c) for c in ("g++", "clang++", "c++")), reason="torch.compile needs a C++ compiler"
)


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_a_compiled_stage_equals_eager() -> None:
    """Norm, SiLU, modulation, folded convolution and gene-morph attention as one graph."""
    stage = random_tiny().encoder[1].stages[1]
    assert stage.attention is not None
    h, genes, time = torch.randn(2, 16, 16, 2, 8), torch.randn(2, 8, 8, 2, 3), torch.randn(2, 8)
    genes = genes.repeat_interleave(2, 1).repeat_interleave(2, 2)
    compiled = torch.compile(stage, fullgraph=True)  # fullgraph: a graph break is an error
    # In this process: others would each import torch first.
    with torch.no_grad(), torch._inductor.config.patch(compile_threads=1):
        torch.testing.assert_close(compiled((h,), genes, time), stage((h,), genes, time), rtol=0, atol=1e-5)


@pytest.mark.soak
def test_the_whole_network_is_one_graph() -> None:
    model = random_tiny()
    x, counts, t = torch.randn(4, 4, 32, 32), torch.ones(4, 4, 3, 2, 2), torch.tensor([5])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for ours, theirs in zip(compiled(x, t, counts), model(x, t, counts), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
