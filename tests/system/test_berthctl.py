"""berthctl against a running Berth: every command that uses the API, its exit codes, its JSON."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from conftest import BUILD, PROGRAMS, ROOT, wait_until

PROGRAM = BUILD / "berthctl" / "berthctl"


def ctl(berth, *args, token=True, url=None, expect=0, stdin=None):
    env = {"PATH": os.environ["PATH"], "HOME": str(berth.folder), "BERTH_URL": url or berth.stack.url}
    env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
    if token:
        env["BERTH_TOKEN"] = berth.stack.token if token is True else token
    done = subprocess.run([PROGRAM, *args], env=env, capture_output=True, text=True, timeout=60, input=stdin)
    assert done.returncode == expect, (args, done.returncode, done.stdout, done.stderr)
    return done


def test_status_and_workers(berth):
    assert "gatewayd" in ctl(berth, "status").stdout
    assert {d["name"] for d in json.loads(ctl(berth, "--json", "status").stdout)["daemons"]} >= {"gatewayd", "coordinatord"}
    assert "WORKER" in ctl(berth, "workers").stdout
    assert len(json.loads(ctl(berth, "--json", "workers").stdout)) == 2


def test_a_session_from_the_command_line(berth):
    turns = json.dumps([{"thinking": "hm", "text": "I look.", "tools": [["bash", {"command": "echo in the slot"}]]}, {"text": "Done."}])
    id = ctl(berth, "--headless", "sessions", "new", f"SCRIPT: {turns}").stdout.strip()
    text = ctl(berth, "sessions", "follow", id).stdout
    for part in ("you: ", "thinks: hm", "agent: I look.", "tool: bash", "in the slot", "Done."):
        assert part in text, text
    assert "\033" not in text
    updates = [json.loads(line) for line in ctl(berth, "--json", "sessions", "follow", id).stdout.splitlines()]
    stored = berth.events(id)
    assert [u["seq"] for u in updates if "seq" in u][:3] == [1, 2, 3] and len([u for u in updates if "seq" in u]) <= len(stored)
    assert id in ctl(berth, "sessions", "list").stdout and id in ctl(berth, "sessions", "list", "idle").stdout
    assert id not in ctl(berth, "sessions", "list", "failed").stdout
    assert json.loads(ctl(berth, "--json", "sessions", "show", id).stdout)["session_id"] == id
    ctl(berth, "sessions", "send", id, 'SCRIPT: [{"text": "again"}]')
    wait_until(lambda: "again" in json.dumps(berth.events(id)), 20, "the answer")
    ctl(berth, "sessions", "delete", id)
    assert "was not found" in ctl(berth, "sessions", "show", id, expect=1).stderr or ctl(berth, "sessions", "show", id, expect=1).stderr


def test_attach_sends_what_is_typed(berth):
    id = ctl(berth, "--headless", "sessions", "new", 'SCRIPT: [{"text": "first"}]').stdout.strip()
    berth.wait_status(id, "idle")
    env = {"HOME": str(berth.folder), "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token}
    p = subprocess.Popen([PROGRAM, "attach", id], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        p.stdin.write(b'SCRIPT: [{"text": "second"}]\n')
        p.stdin.flush()
        os.set_blocking(p.stdout.fileno(), False)
        seen, deadline = b"", time.monotonic() + 20
        while b"agent: second" not in seen:
            assert time.monotonic() < deadline, seen
            seen += p.stdout.read() or b""
            time.sleep(0.05)
        assert b"agent: first" in seen and b"you: SCRIPT" in seen
    finally:
        p.kill()
        p.wait()
    ctl(berth, "sessions", "delete", id)


def test_stop(berth):
    id = ctl(berth, "--headless", "sessions", "new", 'SCRIPT: [{"text": "slow", "delay": 60}]').stdout.strip()
    berth.wait_status(id, "running")
    ctl(berth, "sessions", "stop", id)
    assert berth.session(id)["status"] == "stopped"
    assert ctl(berth, "sessions", "stop", id, expect=1).stderr.startswith("berthctl: ")
    ctl(berth, "sessions", "delete", id)


def test_documents(berth, tmp_path):
    source, copy = tmp_path / "größe.txt", tmp_path / "copy"
    source.write_bytes(b"a\0b" * 1000)
    id = ctl(berth, "documents", "put", str(source), "one,two").stdout.strip()
    assert "größe.txt" in ctl(berth, "documents", "list", "one,two").stdout
    ctl(berth, "documents", "get", id, str(copy))
    assert copy.read_bytes() == source.read_bytes()
    assert json.loads(ctl(berth, "--json", "documents", "tag", id, "three").stdout)["tags"] == ["three"]
    ctl(berth, "documents", "delete", id)
    ctl(berth, "documents", "get", id, str(tmp_path / "none"), expect=1)
    assert not (tmp_path / "none").exists() and not (tmp_path / "none.part").exists()
    ctl(berth, "documents", "put", str(tmp_path / "missing"), expect=1)


def test_agents(berth, tmp_path):
    blueprint = tmp_path / "clerk.json"
    blueprint.write_text(json.dumps({"name": "ctl-clerk", "description": "files things", "model": "demo", "budget": {"turns": 5}}))
    assert ctl(berth, "agents", "put", str(blueprint)).stdout == "ctl-clerk version 1\n"
    blueprint.write_text(json.dumps({"name": "ctl-clerk", "description": "files more things"}))
    assert ctl(berth, "agents", "put", str(blueprint)).stdout == "ctl-clerk version 2\n"
    shown = json.loads(ctl(berth, "agents", "show", "ctl-clerk").stdout)
    assert shown["description"] == "files more things" and shown["model"] == "demo" and shown["budget"] == {"turns": 5}
    assert "ctl-clerk" in ctl(berth, "agents").stdout and ctl(berth, "agents", "versions", "ctl-clerk").stdout.count("\n") == 3
    ctl(berth, "agents", "disable", "ctl-clerk")
    assert {a["name"]: a["status"] for a in json.loads(ctl(berth, "--json", "agents", "list").stdout)}["ctl-clerk"] == "inactive"
    ctl(berth, "agents", "enable", "ctl-clerk")
    (tmp_path / "bad.json").write_text('{"name": "ctl-clerk", "budget": {"turns": -1}}')
    assert "budget" in ctl(berth, "agents", "put", str(tmp_path / "bad.json"), expect=1).stderr
    (tmp_path / "worse.json").write_text("[")
    for wrong in ("worse.json", "nowhere.json"):
        assert wrong in ctl(berth, "agents", "put", str(tmp_path / wrong), expect=1).stderr
    ctl(berth, "agents", "delete", "ctl-clerk")
    ctl(berth, "agents", "show", "ctl-clerk", expect=1)


def test_a_budget_is_shown_and_raised(berth):
    session = berth.create([{"tools": [["bash", {"command": "true"}]]}, {"text": "went on"}], budget={"turns": 1})["session_id"]
    berth.wait_status(session, "waiting")
    assert json.loads(ctl(berth, "budgets", f"session={session}").stdout)["budget"] == {"turns": 1}
    assert json.loads(ctl(berth, "budgets", "raise", f"session={session}", "turns=9", "cost_usd=2.5").stdout) == {"turns": 9, "cost_usd": 2.5}
    berth.wait_status(session, "idle", "finished")
    berth.call("POST", "/agents", 201, json={"name": "ctl-thrifty"})
    assert json.loads(ctl(berth, "budgets", "agent=ctl-thrifty", "tokens_day=1000000", "cost_usd_month=12.5").stdout) == {"tokens_day": 1000000, "cost_usd_month": 12.5}
    line = next(x for x in ctl(berth, "budgets").stdout.splitlines() if x.startswith("ctl-thrifty"))
    assert "12.5" in line and "1000000" in line
    assert [b["limits"] for b in json.loads(ctl(berth, "--json", "budgets", "agent=ctl-thrifty").stdout)] == [{"tokens_day": 1000000, "cost_usd_month": 12.5}]
    ctl(berth, "budgets", "agent=ctl-thrifty", "tokens_day=none", "cost_usd_month=none")
    for args in (("turns",), ("turns=",), ("turns=x",)):
        assert "usage" in ctl(berth, "budgets", f"session={session}", *args, expect=2).stderr
    assert "turns" in ctl(berth, "budgets", f"session={session}", "turns=-1", expect=1).stderr
    ctl(berth, "budgets", "agent=ctl-thrifty", "nonsense=1", expect=1)


def test_pause_and_resume(berth):
    session = berth.create([{"tools": [["bash", {"command": "sleep 30"}]]}, {"text": "done"}])["session_id"]
    berth.wait_status(session, "running")
    ctl(berth, "sessions", "pause", session)
    berth.wait_status(session, "paused")
    ctl(berth, "sessions", "resume", session)
    berth.wait_status(session, "running", "idle")
    ctl(berth, "sessions", "interrupt", session)
    berth.wait_status(session, "idle")


def test_every_command_is_completed_and_in_the_manual():
    names = set(re.findall(r"^  ([a-z]+)", subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=20).stdout, re.M))
    assert len(names) >= 19
    manual = (ROOT / "berthctl" / "berthctl.1").read_text()
    assert {n for n in names if not re.search(rf"^\.B {n}\b", manual, re.M)} == set()
    ask = f'. {ROOT}/berthctl/berthctl.bash; COMP_WORDS=(berthctl "$1"); COMP_CWORD=1; _berthctl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    offered = set(subprocess.run(["bash", "-c", ask, "bash", ""], capture_output=True, text=True, timeout=20).stdout.split())
    assert names - offered == set()
    for daemon in ("coordinatord", "docserverd", "gatewayd", "workerd"):
        settings = set(re.findall(r"^#?([a-z0-9_]+) =", subprocess.run([BUILD / PROGRAMS[daemon], "--print-config"], capture_output=True, text=True, timeout=20).stdout, re.M))
        page = (BUILD / "berthctl" / f"berth-{daemon}.conf.5").read_text()
        assert len(settings) > 10 and {s for s in settings if not re.search(rf"^\.B {s} =", page, re.M)} == set()
        if not shutil.which("man"):
            continue
        checked = subprocess.run(["man", "--warnings", "-l", "-Tutf8", BUILD / "berthctl" / f"berth-{daemon}.8"], capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0 and "warning" not in checked.stderr, checked.stderr


def test_failures_say_what_to_do(berth):
    assert "token" in ctl(berth, "status", token="bt_wrong", expect=1).stderr
    assert "doctor" in ctl(berth, "status", url="http://127.0.0.1:1", expect=1).stderr
    for args in ((), ("nonsense",), ("sessions", "nonsense", "x"), ("attach",), ("drain",), ("documents", "get"), ("image",), ("--nonsense",),
                 ("restore", "/nowhere"), ("config",), ("backup",)):
        done = ctl(berth, *args, expect=2)
        assert "berthctl" in done.stderr, args
    for evil in ("../../x", "a b", "%00", "?q=1", "x" * 5000):
        ctl(berth, "sessions", "show", evil, expect=1)
    assert ctl(berth, "--version").stdout.startswith("berthctl ")


@pytest.mark.parametrize("command", ["restore", "documents", "attach", "doctor", "--json"])
def test_help_names(berth, command):
    assert command in ctl(berth, "--help").stdout


def test_doctor(berth):
    done = json.loads(subprocess.run([PROGRAM, "--json", "doctor"], capture_output=True, text=True, timeout=60,
                                     env={"PATH": os.environ["PATH"], "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token}).stdout)
    results = {c["check"]: c["result"] for c in done}
    assert results["the gateway answers"] == "ok" and results["the database answers"] == "ok"
    assert all(c["remedy"] for c in done if c["result"] != "ok")


def examined(berth, setup, program=PROGRAM):
    """What doctor says in a view of this host that the commands make: check -> its row."""
    env = {"PATH": os.environ["PATH"], "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token}
    env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
    done = subprocess.run(["unshare", "-m", "sh", "-ec", f'{setup}\nexec "$0" --json doctor', str(program)], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout.startswith("["), done.stderr
    return done.returncode, {c["check"]: c for c in json.loads(done.stdout)}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts over what doctor looks at")
def test_doctor_finds_what_is_wrong(berth, tmp_path):
    conf, images, late = tmp_path / "conf", tmp_path / "images", tmp_path / "berthctl"
    for folder in (conf, conf / "credentials", images, images / "desktop-0123456789ab" / "usr"):
        folder.mkdir(parents=True)
    for name, mode in (("gatewayd.conf", 0o666), ("coordinatord.conf", 0o600), ("workerd.conf", 0o644), ("credentials/anthropic-key", 0o644), ("credentials/egress", 0o600), ("pgpass-gatewayd", 0o400)):
        (conf / name).write_text("")
        (conf / name).chmod(mode)
    (conf / "credentials").chmod(0o700)
    (images / "desktop").symlink_to("desktop-0123456789ab")
    (images / "desktop-0123456789ab.json").write_text('{"built_at": "2025-01-02T03:04:05Z"}')
    shutil.copy2(PROGRAM, late)
    os.utime(late, (time.time() + 90 * 3600,) * 2)
    at = "/usr/local/etc" if "/usr/local/etc/berth" in PROGRAM.read_bytes().decode("latin-1") else "/etc"
    view = f"""mount -t tmpfs -o size=64M none /var/lib; mkdir -p /var/lib/berth/images; mount --bind {images} /var/lib/berth/images
        mkdir -p {at}; mount -t tmpfs none {at}; mkdir {at}/berth; mount --bind {conf} {at}/berth"""
    broken = view + f"""
        echo 0 >/var/lib/zero; mount --bind /var/lib/zero /proc/sys/user/max_user_namespaces
        mkdir -p /var/lib/dev; for d in null zero urandom; do touch /var/lib/dev/$d; mount --bind /dev/$d /var/lib/dev/$d; done; mount --rbind /var/lib/dev /dev
        mkdir -p /usr/lib/postgresql; mount -t tmpfs none /usr/lib/postgresql"""
    code, said = examined(berth, broken, late)
    assert code == 1
    assert "chown berth_gatewayd" in next(c["remedy"] for name, c in said.items() if "pgpass-gatewayd is berth_gatewayd's alone" in name)
    bad = {name for name, c in said.items() if c["result"] == "wrong"}
    notes = {name for name, c in said.items() if c["result"] == "note"}
    for part in ("PostgreSQL is installed", "gatewayd.conf: others than root may write to it (mode 0666)", "coordinatord.conf: the daemons cannot read it (mode 0600)",
                 "anthropic-key: others than root may come to it (mode 0644)", "user namespaces are allowed", "the clock is not behind", "/var/lib has 0 GiB free"):
        assert any(part in name for name in bad), (part, said)
    assert not any("workerd.conf" in name or "egress" in name for name in bad)
    assert "there is no KVM" in notes and any("desktop-0123456789ab is " in name for name in notes), notes
    assert all(c["remedy"] for c in said.values() if c["result"] != "ok")
    for name in ("gatewayd.conf", "coordinatord.conf"):
        (conf / name).chmod(0o644)
    (conf / "credentials" / "anthropic-key").chmod(0o600)
    (conf / "pgpass-gatewayd").unlink()
    (conf / "coordinatord.conf").write_text("database = host=192.0.2.1 dbname=berth\n")
    (images / "desktop-0123456789ab.json").write_text(json.dumps({"built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 86400))}))
    code, said = examined(berth, view)
    assert not any("PostgreSQL" in n or "postgresql" in n for n in said), "it is on another host"
    assert {n for n, c in said.items() if c["result"] != "ok" and (".conf" in n or "key" in n or "image" in n or "clock is not" in n or "PostgreSQL" in n)} == set(), said
    assert said["the slot image desktop-0123456789ab is 1 days old"]["result"] == "ok"


WRONG = [[], ["nonsense"], ["--nonsense"], ["--url"], ["status", "x"], ["workers", "x"], ["sessions", "nonsense"], ["sessions", "stop", "a", "b"], ["sessions", "delete", "a", "b"], ["sessions", "show"], ["sessions", "list", "idle", "x"],
         ["sessions", "send", "a"], ["attach"], ["documents", "get", "a", "b", "c"], ["documents", "delete", "a", "b"], ["documents", "tag", "a"], ["recordings", "show", "a", "b"], ["recordings", "delete", "a", "b"], ["recordings", "export", "a", "b"],
         ["agents", "list", "x"], ["approvals", "x"], ["budgets", "turns"], ["budgets", "cost_usd_day=1e400"], ["budgets", "cost_usd_day=nan"], ["budgets", "cost_usd_day=-inf"], ["budgets", "tokens_day=1e300"], ["usage", "a", "b"], ["drain"],
         ["tokens", "nonsense"], ["tokens", "revoke", "a", "b"], ["users", "role", "x"], ["tenants", "limit", "x", "slots", "many"], ["audit", "verify", "x"], ["image", "build", "../x"], ["image", "list", "x"], ["config", "nonsense"], ["doctor", "x"],
         ["backup"], ["backup", "a", "b"], ["restore", "x"], ["restore", "--yes"], ["terminal", "a", "b"]]


@pytest.mark.parametrize("args", WRONG, ids=" ".join)
def test_what_was_not_written_right_is_answered_with_2(berth, args):
    """In at most a screen, with what may be written; nothing is done with half of it."""
    said = ctl(berth, *args, expect=2)
    assert not said.stdout and re.search(r"usage: berthctl|berthctl: \S", said.stderr) and len(said.stderr.splitlines()) < 40, said.stderr
    assert "runtime error" not in said.stderr and str(PROGRAM) not in said.stderr


@pytest.mark.parametrize("id", ["", "nobody", "../../etc/passwd", "a/b", "%s%n", "\x1b[31m", "a" * 100000, "é", "00000000-0000-7000-8000-000000000000"], ids=lambda v: repr(v[:20]))
def test_what_is_not_there_is_said_in_words(berth, id, tmp_path):
    for args in (["sessions", "show", id], ["sessions", "stop", id], ["sessions", "follow", id], ["attach", id], ["sessions", "send", id, "hello"], ["documents", "get", id, str(tmp_path / "out")], ["documents", "delete", id],
                 ["recordings", "show", id], ["agents", "show", id], ["tokens", "revoke", id], ["users", "delete", id], ["drain", id]):
        said = ctl(berth, *args, expect=1)
        line, = said.stderr.splitlines() if id != "\x1b[31m" else [said.stderr.strip()]
        assert not said.stdout and re.match(r"berthctl: (there is no|an ID or name|\S.* (not|no) )", line), (args, said.stderr[:300])
        assert "percent-encoded" not in line and "status 4" not in line and "request target" not in line, said.stderr[:300]
        assert not (tmp_path / "out").exists()


def test_a_server_that_cannot_be_asked(berth):
    """What is wrong and where to look, in one line."""
    for url, words in (("http://127.0.0.1:1", "is Berth running"), ("nonsense", "BERTH_URL"), ("ftp://x", "BERTH_URL"), ("http://no.such.host.invalid", "BERTH_URL"), (berth.stack.url.replace("http:", "https:"), "begins with http://")):
        for args in (["status"], ["documents", "put", "/etc/hostname"], ["documents", "get", "x"], ["sessions", "follow", "x"]):
            said = ctl(berth, *args, url=url, expect=1).stderr
            assert said.count("\n") == 1 and url in said and words in said, said
    for token, words in (("wrong", "token of BERTH_TOKEN is not"), ("a\nb", "characters that no token has"), ("", "no token was found")):
        for args in (["status"], ["documents", "get", "x"]):
            assert words in ctl(berth, *args, token=token or False, expect=1).stderr


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["status"], ["--json", "status"], ["sessions", "list"], ["--json", "audit"], ["agents"], ["documents", "list"]], ids=" ".join)
def test_output_that_goes_nowhere_is_a_failure(berth, args):
    """A full disk is told; a reader that has left is not; and what was to be written goes into no socket."""
    env = {"HOME": str(berth.folder), "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token}
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, *args], env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == 1 and "could not be written" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([PROGRAM, *args], env=env, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=20)
    os.close(writer)
    assert done.returncode == 1 and not done.stderr, done.stderr
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", PROGRAM, *args], env={**env, "PATH": "/bin:/usr/bin"}, stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == 1 and "could not be written" in done.stderr, done.stderr


def test_following_ends_with_its_reader(berth):
    id = berth.create([{"tools": [["bash", {"command": "sleep 0.3; echo one"}]]}] * 3 + [{"text": "slow", "delay": 60}])["session_id"]
    p = subprocess.Popen([PROGRAM, "--json", "sessions", "follow", id], env={"HOME": str(berth.folder), "BERTH_URL": berth.stack.url, "BERTH_TOKEN": berth.stack.token}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert p.stdout.readline()
        p.stdout.close()
        assert p.wait(30) == 1 and not p.stderr.read()
    finally:
        p.kill()
    ctl(berth, "sessions", "stop", id)


def test_a_folder_is_no_document(berth):
    assert "Is a directory" in ctl(berth, "documents", "put", "/etc", expect=1).stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("apt-get"), reason="needs root and apt")
def test_doctor_names_security_updates_that_an_image_lacks(berth, tmp_path):
    """Real apt with an archive of the test's own: of two packages with updates one has a security update."""
    archive, images = tmp_path / "archive", tmp_path / "images"
    codename = re.search(r"^VERSION_CODENAME=(\w+)", open("/etc/os-release").read(), re.M)[1]
    machine = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()

    def package(name, version, *more):
        return "\n".join([f"Package: {name}", f"Version: {version}", f"Architecture: {machine}", "Maintainer: nobody <nobody@example.org>", "Description: x", *more]) + "\n\n"
    for label, text in (("Debian-Security", package("zebra", "2.0", "Filename: zebra.deb", "Size: 1", "SHA256: " + "0" * 64)), ("Debian", package("yak", "2.0", "Filename: yak.deb", "Size: 1", "SHA256: " + "0" * 64))):
        (archive / label).mkdir(parents=True)
        (archive / label / "Packages").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        (archive / label / "Release").write_text(f"Origin: Debian\nLabel: {label}\nSuite: stable\nVersion: 12\nDate: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n {digest} {len(text)} Packages\n")
    for name, suite in (("desktop", codename), ("strange", "potato")):
        folder = images / f"{name}-0123456789ab"
        (folder / "usr").mkdir(parents=True)
        (folder / "var/lib/dpkg").mkdir(parents=True)
        installed = "Status: install ok installed"
        (folder / "var/lib/dpkg/status").write_text(package("zebra", "1.0", installed) + package("yak", "1.0", installed))
        (images / name).symlink_to(folder.name)
        (images / f"{folder.name}.json").write_text(json.dumps({"suite": suite, "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    subprocess.run(["chmod", "-R", "a+rX", tmp_path], check=True)
    view = f"""mount -t tmpfs -o size=64M none /var/lib; mkdir -p /var/lib/berth/images /var/lib/apt/lists/partial /var/lib/dpkg; touch /var/lib/dpkg/status
        mount --bind {images} /var/lib/berth/images; mount -t tmpfs none /etc/apt; mkdir /etc/apt/apt.conf.d /etc/apt/preferences.d /etc/apt/trusted.gpg.d
        printf 'deb [trusted=yes] file:{archive}/Debian-Security ./\\ndeb [trusted=yes] file:{archive}/Debian ./\\n' >/etc/apt/sources.list
        mount -t tmpfs none /var/cache/apt; apt-get -qq -o APT::Sandbox::User=root update >&2"""
    _, said = examined(berth, view)
    assert said["the slot image desktop-0123456789ab is 0 days old and lacks 1 security update (zebra)"]["result"] == "note", said
    assert "berthctl image build desktop" in next(c["remedy"] for n, c in said.items() if "zebra" in n)
    assert said["the slot image strange-0123456789ab is 0 days old"]["result"] == "ok"
