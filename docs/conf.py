"""Sphinx configuration: MyST pages, API pages from docstrings, no network."""

from __future__ import annotations

import shutil
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).resolve().parent

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

# One page a module, found in the source: nothing to add here when a module is. Made anew each time, since Sphinx leaves
# pages alone that are there, even those of modules that are not.
shutil.rmtree(HERE / "api" / "generated", ignore_errors=True)
apidoc_modules = [
    {"path": str(source), "destination": f"api/generated/{source.parents[1].name}"}
    for source in sorted(HERE.parent.glob("packages/*/src/*"))
]
apidoc_exclude_patterns = [str(HERE.parent / "packages/*/src/*" / name) for name in ("cli.py", "commands")]
apidoc_separate_modules = True
apidoc_module_first = True
apidoc_automodule_options = {"members", "show-inheritance"}
# A name is documented where it is defined, not again where a package offers it.
autodoc_default_options = {"ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
# Two modules may have a class of one name, and annotations name classes shortly: which is meant shows in the source.
suppress_warnings = ["ref.python"]
