"""What the tests share. pyproject.toml puts ``tests`` on the path, so that they import it as ``support``."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.register_assert_rewrite("support.contract", "support.helpers")
