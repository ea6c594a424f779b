"""Sphinx configuration: MyST pages, API pages from docstrings, no network."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[1] / "packages"

project = "teramind"
author = "teramind developers"
copyright = "2026, teramind developers"
version = release = installed_version("teramind-data")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.apidoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "teramind"
html_copy_source = False

# One page a module, found in the source: nothing to add here when a module is.
apidoc_modules = [
    {
        "path": str(PACKAGES / name / "src" / name.replace("-", "_")),
        "destination": f"api/generated/{name}",
        "separate_modules": True,
        "module_first": True,
        # the command lines document themselves
        "exclude_patterns": ["**/cli.py", "**/commands"],
        "automodule_options": {"members", "show-inheritance", "ignore-module-all"},
    }
    for name in ("teramind-data", "teramind-model", "teramind-eval")
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
