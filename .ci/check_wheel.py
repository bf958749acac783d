"""Check an installed wheel: complete, typed, and at work without torch."""

import importlib
import importlib.util
import sys
from importlib.resources import files

PACKAGES = ("shared_router", "langchain_hybrid", "llamaindex_hybrid")
ABSENT = ("torch", "transformers", "scipy", "onnx")


def check() -> None:
    """Import everything public; decide one query with a fake scorer, one with the real thing."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        assert "site-packages" in str(package.__file__), f"{name}: imported from the checkout"
        assert files(package).joinpath("py.typed").is_file(), f"{name}: no py.typed"
        for public in package.__all__:
            getattr(package, public)
    for name in ABSENT:
        assert importlib.util.find_spec(name) is None, f"{name}: serving must not need it"
    from shared_router import Router
    from shared_router.testing import fixed_router

    decision = fixed_router(0.5).decide("a query")
    assert decision.candidate == "small", decision
    bundled = Router.bundled().decide("What is the capital of France?", cost_advantage=1.0)
    assert bundled.candidate == "small-tier", bundled
    assert bundled.reason == "score", bundled


if __name__ == "__main__":
    check()
    sys.stdout.write(f"{', '.join(PACKAGES)}: importable, typed, without {', '.join(ABSENT)}\n")
