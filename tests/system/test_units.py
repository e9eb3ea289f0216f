"""The systemd units without systemd: they verify, and their sandboxes stay as tight as they were."""
import ipaddress
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


@pytest.mark.parametrize("name,most", [*((n, 15) for n in DAEMONS), ("berth-workerd@.service", 30)])
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


def test_no_unit_lets_processes_outlive_it():
    """KillMode=process left six of ten processes of a slot behind, measured."""
    files = [p for p in SOURCES.iterdir() if re.search(r"\.(service|slice|socket|conf)(\.in)?$", p.name)]
    assert len(files) > 10
    for path in files:
        assert not re.search(r"(?m)^(KillMode=(?!control-group$)|SendSIGKILL=no)", path.read_text()), path.name


def test_worker_leaves_slots_what_they_need(units):
    """What was measured to break bubblewrap or a browser's own sandbox is not set."""
    service = section(units / "berth-workerd@.service", "Service")
    for name in ("ProcSubset", "MemoryDenyWriteExecute", "ProtectHostname", "PrivateNetwork", "PrivateUsers", "RestrictSUIDSGID", "DynamicUser"):
        assert name not in service, name
    assert set(service["RestrictNamespaces"].split()) == {"user", "mnt", "pid", "net", "ipc", "uts"}
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]
    assert "@mount" in (units / "berth-workerd@.service").read_text()
    assert service["User"] == "berth_worker%i" and service["Slice"] == "berth-slot-%i.slice"


def test_workers_reach_no_link_local_address(units):
    """The allowed ranges are everything but those: no gap and no overlap in IPv4; each is a network."""
    text = (units / "berth-workerd@.service").read_text()
    allowed = [ipaddress.ip_network(n) for line in re.findall("^IPAddressAllow=(.*)", text, re.M) for n in line.split()]
    assert section(units / "berth-workerd@.service", "Service")["IPAddressDeny"] == "any"
    v4 = sorted(n for n in allowed if n.version == 4)
    assert sum(n.num_addresses for n in v4) == 2 ** 32 - 2 ** 16 - 2 ** 29 and not any(a.overlaps(b) for a, b in zip(v4, v4[1:]))
    for address, reached in (("169.254.169.254", False), ("224.0.0.1", False), ("255.255.255.255", False), ("fe80::1", False), ("ff02::1", False), ("127.0.0.1", True),
                             ("10.1.2.3", True), ("192.168.1.1", True), ("169.253.1.1", True), ("169.255.0.1", True), ("8.8.8.8", True), ("::1", True), ("2606:4700::1", True), ("fd12::1", True)):
        assert any(ipaddress.ip_address(address) in n for n in allowed) == reached, address


def test_listeners_are_loopback(units):
    for name, port in (("berth-gatewayd.socket", 8765), ("berth-gatewayd-documents.socket", 8766)):
        assert section(units / name, "Socket")["ListenStream"] == f"127.0.0.1:{port}"


def test_slice_has_limits():
    limits = section(SOURCES / "slot-limits.conf", "Slice")
    assert limits["MemoryMax"] and limits["TasksMax"] and limits["CPUQuota"]


def test_prices_are_json():
    assert json.loads((SOURCES / "prices.json").read_text())
