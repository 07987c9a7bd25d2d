"""How many examples a law is tried with: few at a desk, the same ones each time in CI, many where asked."""

from __future__ import annotations

import os

from hypothesis import settings

project = settings.get_profile("project")
settings.register_profile("ci", parent=project, derandomize=True, print_blob=True)
settings.register_profile("thorough", parent=project, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "project"))
