"""The docstring of each Python test names the requirements that it shows."""

import re

import pytest

REQUIREMENT = re.compile(r"\b[A-Z]\d{1,2}\b")


def require_names(items):
    """Ends the run where a test names none."""
    undocumented = [item.nodeid for item in items if not REQUIREMENT.search(item.function.__doc__ or "")]
    if undocumented:
        raise pytest.UsageError(f"tests whose docstring names no requirement: {undocumented}")
