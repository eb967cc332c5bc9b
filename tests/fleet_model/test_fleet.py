"""Runs the machine; ``SIDEKEY_SOAK=1`` runs twenty times as many examples."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.fleet_model.machine import FleetMachine

_SOAK = os.environ.get("SIDEKEY_SOAK") == "1"

TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(
    max_examples=5000 if _SOAK else 250,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# A run that passes takes half a minute; a failure is made small first, and then shown with what reproduces it.
pytestmark = pytest.mark.timeout(7200 if _SOAK else 900)
