"""Fault runs at CI counts, judged by the oracle of tests/faults: a process dies at each named point; two claim what one may hold."""
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))
import faults  # noqa: E402
import harness  # noqa: E402


@pytest.mark.timeout(280)
@pytest.mark.parametrize("fault", ["F5", "F24"])
def test_fault(fault, record_property):
    if not harness.built_with_faults():
        pytest.skip("built without -Dfaults=true")
    violations, recovered = faults.perform(fault)
    for kind, times in recovered.items():
        record_property("recovered", faults.told(kind, times))
    assert not violations, violations[:20]


def test_every_crash_point_has_a_case():
    """A point in the code that no test arms is a place where nobody knows what kill -9 does."""
    root = pathlib.Path(__file__).resolve().parents[2]
    points = {name for folder in ("common", "coordinatord", "docserverd", "gatewayd", "workerd") for path in (root / folder).rglob("*.c")
              for name in re.findall(r'crash_point\("([a-z_.]+)"\)', path.read_text())}
    tests = "".join(path.read_text() for folder in ("tests/faults", "tests/system") for path in (root / folder).glob("*.py"))
    assert len(points) > 20 and not {p for p in points if f'"{p}' not in tests}
    assert {p for p in points if p.split(".")[0] in ("hub", "lease", "slot")} <= set(faults.WORKER_POINTS + faults.COORDINATOR_POINTS)
