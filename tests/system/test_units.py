"""The systemd units without systemd: they verify, and their sandboxes stay as tight as they were."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "systemd"
DAEMONS = ["berth-coordinatord.service", "berth-docserverd.service", "berth-gatewayd.service"]
SERVICES = [*DAEMONS, "berth-workerd@.service"]

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this host")


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """The units as meson would configure them; programs are stood in for."""
    folder = tmp_path_factory.mktemp("units")
    program = folder / "lib"
    program.mkdir()
    for name in ("coordinatord", "docserverd", "gatewayd", "workerd", "berth-idmap"):
        (program / name).symlink_to("/bin/true")
    values = {"pkglibdir": program, "confdir": "/etc/berth", "docdir": "/usr/share/doc/berth", "imagedir": "/var/lib/berth/images",
              "pkgdatadir": "/usr/share/berth"}
    for path in SOURCES.iterdir():
        if path.suffix == ".socket" or path.name.endswith((".service.in", ".target.in")):
            text = re.sub(r"@(\w+)@", lambda m: str(values[m[1]]), path.read_text())
            (folder / path.name.removesuffix(".in")).write_text(text)
    return folder


def section(path, name):
    """A section's settings; the last of each wins."""
    body = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", path.read_text(), re.M | re.S)[1]
    return dict(line.split("=", 1) for line in body.splitlines() if "=" in line and not line.startswith("#"))


def test_units_verify(units):
    names = [*DAEMONS, "berth-workerd@1.service", "berth-gatewayd.socket", "berth-gatewayd-documents.socket", "berth.target"]
    shutil.copy(units / "berth-workerd@.service", units / "berth-workerd@1.service")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *(str(units / n) for n in names)],
                          capture_output=True, text=True, timeout=60)
    (units / "berth-workerd@1.service").unlink()
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "berth" in line and "postgresql" not in line]
    assert not ours, ours


# The worker was at 3.0 with RestrictSUIDSGID, which takes openat2 from bubblewrap 0.12: no slot on Debian 13.
@pytest.mark.parametrize("name,most", [*((n, 15) for n in DAEMONS), ("berth-workerd@.service", 31)])
def test_exposure(units, name, most):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={most}", "--no-pager", str(units / name)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_rule_14(units, name):
    """R14: notify, watchdog, restart at once and for ever, everything dies with the unit, cores hold no secret."""
    service, unit = section(units / name, "Service"), section(units / name, "Unit")
    assert service["Type"] == "notify" and service["WatchdogSec"] == "3"
    assert service["Restart"] == "always" and service["RestartSec"] == "200ms" and unit["StartLimitIntervalSec"] == "0"
    assert service.get("KillMode", "control-group") == "control-group"
    # What runs in a slot can lower its own score to its worker's: that one is 0.
    assert service["OOMScoreAdjust"] == ("0" if "workerd" in name else "-500") and service["LimitCORE"] == "0"
    assert service["NoNewPrivileges"] == "yes" and service["CapabilityBoundingSet"] == ""
    assert "Environment" not in service
    assert service["User"] not in ("", "root")


def test_worker_leaves_slots_what_they_need(units):
    """What was measured to break bubblewrap or a browser's own sandbox is not set."""
    service = section(units / "berth-workerd@.service", "Service")
    for name in ("RestrictNamespaces", "ProcSubset", "MemoryDenyWriteExecute", "ProtectHostname", "PrivateNetwork", "RestrictSUIDSGID", "DynamicUser"):
        assert name not in service, name
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]
    assert "@mount" in (units / "berth-workerd@.service").read_text()
    assert service["User"] == "berth_worker%i" and service["Slice"] == "berth-slot-%i.slice"


def test_listeners_are_loopback(units):
    for name, port in (("berth-gatewayd.socket", 8765), ("berth-gatewayd-documents.socket", 8766)):
        assert section(units / name, "Socket")["ListenStream"] == f"127.0.0.1:{port}"


def test_slice_has_limits():
    limits = section(SOURCES / "slot-limits.conf", "Slice")
    assert limits["MemoryMax"] and limits["TasksMax"] and limits["CPUQuota"]


def test_prices_are_json():
    assert json.loads((SOURCES / "prices.json").read_text())
