"""Tests of several processes on one keystore."""

import pytest

# Before it is imported, so that its checks say what they have found.
pytest.register_assert_rewrite("tests.fleet.fleet")
