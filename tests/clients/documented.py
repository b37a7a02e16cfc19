"""The docstring of each Python test begins with its requirement IDs, as `tests/requirements.rs` parses them."""

import re

import pytest

#: At the head: `S3` is a requirement too, and the name of a protocol within a sentence.
REQUIREMENTS = re.compile(r"[A-Z]\d{1,2}(, [A-Z]\d{1,2})*: ")


def require_names(items):
    """Ends the run if a test has none."""
    undocumented = [item.nodeid for item in items if not REQUIREMENTS.match(item.function.__doc__ or "")]
    if undocumented:
        raise pytest.UsageError(f"the docstrings of these tests begin with no requirement: {undocumented}")
