from __future__ import annotations

import warnings

# PyG decorates with torch.jit at import time, and torch says it is deprecated.
warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)

import hyperlearn_pyg  # noqa: E402

project = "hyperlearn_pyg"
author = "The hyperlearn_pyg developers"
copyright = author
version = release = hyperlearn_pyg.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"hyperlearn_pyg {version}"
html_static_path = ["_static"]
html_css_files = ["figures.css"]
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Methods of PyG that are overridden here keep their own words; PyG's use roles unknown to this build.
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
