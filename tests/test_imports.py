"""What may import what, and what a plain import loads.

import-linter holds the arrows in the source; these tests hold what happens when the modules are loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

HEAVY = {
    "torch",
    "spatialdata",
    "anndata",
    "pandas",
    "polars",
    "dask",
    "xarray",
    "lightning",
    "skimage",
    "scipy",
}
HEAVY |= {"matplotlib", "pydantic", "typer", "rich"}

# What a GPU machine with little but torch, numpy and zarr does not have.
ABSENT = (HEAVY - {"torch"}) | {"tifffile", "imagecodecs", "pyarrow", "tensorboard", "tensorstore", "zarrs"}

NUMERIC = (
    "teramind_data.geometry",
    "teramind_data.panel",
    "teramind_data.store",
    "teramind_model.network",
    "teramind_model.network.unet",
    "teramind_model.diffusion",
    "teramind_model.diffusion.schedule",
    "teramind_model.diffusion.objective",
    "teramind_model.diffusion.ddim",
    "teramind_model.diffusion.noise",
    "teramind_model.checkpoint",
)


def run_python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(*modules: str) -> set[str]:
    """The top-level names in sys.modules after importing these."""
    code = """
        import importlib, json, sys
        for name in sys.argv[1:]:
            importlib.import_module(name)
        print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
    """
    return set(json.loads(run_python(code, *modules)))


@pytest.mark.parametrize("package", ["teramind_data", "teramind_model", "teramind_eval"])
def test_a_plain_import_is_light(package: str) -> None:
    assert loaded_by(package).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("teramind_data", {"teramind_model", "teramind_eval"}),
        ("teramind_model", {"teramind_eval"}),
        ("teramind_eval", {"teramind_model"}),
    ],
)
def test_the_command_line_of_a_package_loads_no_package_above_it(package: str, others: set[str]) -> None:
    assert loaded_by(f"{package}.cli").isdisjoint(others)


@pytest.mark.parametrize("package", ["teramind_data", "teramind_model", "teramind_eval"])
def test_the_command_line_is_light(package: str) -> None:
    assert loaded_by(f"{package}.cli").isdisjoint({"torch", "spatialdata", "pandas", "lightning", "skimage"})


@pytest.mark.parametrize("module", NUMERIC)
def test_numeric_modules_import_on_a_machine_with_torch_and_zarr_alone(module: str) -> None:
    code = """
        import importlib, sys
        name, *absent = sys.argv[1:]
        for missing in absent:
            sys.modules[missing] = None  # an import of it raises ModuleNotFoundError
        importlib.import_module(name)
    """
    run_python(code, module, *sorted(ABSENT))


def test_the_names_that_others_build_on_are_there() -> None:
    import teramind_data
    import teramind_model

    assert callable(teramind_data.open_brain)
    for name in ("load_model", "gene_gene_attention", "sample_canvas", "training_loss"):
        assert callable(getattr(teramind_model, name))


def test_no_public_name_of_a_package_fails_to_load() -> None:
    import teramind_data
    import teramind_eval
    import teramind_model

    for package in (teramind_data, teramind_model, teramind_eval):
        for name in getattr(package, "__all__", ()):
            getattr(package, name)
