"""Runs the machine; ``SIDEKEY_SOAK=1`` runs twenty times as many examples."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.fleet_model.machine import FleetMachine

_SOAK = os.environ.get("SIDEKEY_SOAK") == "1"

TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(
    max_examples=3000 if _SOAK else 150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.timeout(3600 if _SOAK else 120)
