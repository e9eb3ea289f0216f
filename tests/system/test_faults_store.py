"""Fault runs at CI counts, judged by the oracle of tests/faults: the database, the bus, the viewers and the users do what they do."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))
import faults  # noqa: E402
import harness  # noqa: E402


@pytest.mark.timeout(280)
@pytest.mark.parametrize("fault", ["F8", "F9", "F13", "F15", "F16", "F23"])
def test_fault(fault, record_property):
    if not harness.built_with_faults():
        pytest.skip("built without -Dfaults=true")
    violations, recovered = faults.perform(fault)
    for kind, times in recovered.items():
        record_property("recovered", faults.told(kind, times))
    assert not violations, violations[:20]
