from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

#: Import name of an optional package -> the extra of this package that installs it.
EXTRAS = {
    "faiss": "knn",
    "hypergraphx": "interop",
    "optuna": "tune",
    "tensorboard": "viz",
    "torch_scatter": "accel",
    "torch_sparse": "accel",
    "xgi": "interop",
}


def available(name: str) -> bool:
    """Tell whether the optional package ``name`` can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def require(name: str) -> ModuleType:
    """Import the optional package ``name``.

    Raises:
        ImportError: it is not installed; the text says how to install it.
    """
    if available(name):
        return importlib.import_module(name)
    extra = EXTRAS.get(name)
    how = f"pip install -c constraints.txt '.[{extra}]' (in the clone)" if extra else f"pip install {name}"
    raise ImportError(f"'{name}' is needed here and not installed. Install it with: {how}")
