"""The only way out of a slot: what the egress proxy lets through, what it refuses, and what the session and its people see of it."""
import base64
import json
import socket
import ssl

import pytest

from conftest import Berth, wait_until
from egress_peers import FakeDns, Origin, Proxy, make_certificates

PUBLIC = "127.77.0.1"  # plays a public address in these tests: named in --private


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    class World:
        dns = FakeDns()
        folder = tmp_path_factory.mktemp("egress")
        ca, cert, key = make_certificates(folder, "shop.test", "git.test")
        http = Origin(PUBLIC)
        tls = Origin(PUBLIC, tls=(cert, key))
        inside = Origin("127.0.0.1")
    World.dns.names["shop.test"] = [PUBLIC]
    World.dns.names["git.test"] = [PUBLIC]
    return World


@pytest.fixture
def proxies(world):
    made = []

    def make(network=None, *options, **more):
        made.append(Proxy(network, "--dns", world.dns.address, "--private", PUBLIC, *options, **more))
        return made[-1]
    yield make
    for p in made:
        p.close()


def allow(*hosts):
    return {"mode": "allow", "allow": list(hosts)}


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def test_allowed_hosts_by_both_ways(world, proxies):
    p = proxies(allow(f"shop.test:{world.http.port}", f"shop.test:{world.tls.port}"))
    code, codes, body, err = p.curl(f"http://shop.test:{world.http.port}/a?b=c", body="x" * 100000)
    assert code == 0 and codes[0] == "200" and json.loads(body)["got"] == 100000, err
    assert "Proxy-Connection" not in world.http.seen[-1]["headers"] and world.http.seen[-1]["headers"]["Host"] == f"shop.test:{world.http.port}"
    v = p.verdict()
    assert v["allowed"] and v["address"] == PUBLIC and v["bytes_up"] > 100000 and v["reason"] == "closed"
    code, codes, body, err = p.curl(f"https://shop.test:{world.tls.port}/x", "--cacert", str(world.ca))
    assert code == 0 and codes == ["200", "200"] and json.loads(body)["path"] == "/x", err
    assert p.verdict()["method"] == "CONNECT"
    code, codes, body, err = p.curl(f"http://shop.test:{world.http.port}/bytes=5000000")
    assert code == 0 and len(body) == 5000000, err
    assert p.verdict()["bytes_down"] > 5000000
    code, codes, body, err = p.curl(f"http://shop.test:{world.http.port}/up", "-H", "Transfer-Encoding: chunked", body="y" * 300000)
    assert code == 0 and json.loads(body)["got"] == 300000, err


HOSTS = ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0",
         "[::]", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "224.0.0.1",
         "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "shop.test.evil.test", "evil-shop.test", "SHOP.TEST.", "shop.test%00.evil.test", "a" * 64 + ".test",
         ".".join(["a" * 60] * 5), "shop_test", "user@shop.test", "sh\u00f6p.test", "-shop.test", "shop..test", "xn--shp-sna.test"]


@pytest.mark.parametrize("mode", ["allow", "open"])
@pytest.mark.parametrize("host", HOSTS)
def test_no_name_of_this_machine_gets_through(world, proxies, host, mode):
    """testing.md 2, egress: every form of a bad name is refused, and said so once."""
    p = proxies({"mode": mode, "allow": [f"127.0.0.1:{world.inside.port}", "shop.test:443"]})
    world.dns.names.update({"localhost": ["127.0.0.1"], "xn--shp-sna.test": ["127.0.0.1"], "evil-shop.test": ["10.1.1.1"], "shop.test.evil.test": ["10.1.1.1"]})
    before = len(world.inside.seen)
    for request in (f"CONNECT {host}:{world.inside.port} HTTP/1.1\r\n\r\n", f"GET http://{host}:{world.inside.port}/ HTTP/1.1\r\n\r\n"):
        answer = p.raw(request.encode())
        assert status(answer) in (400, 403), answer
        assert b"X-Berth-Egress: " in answer and answer.endswith(b"\n")
        v = p.verdict()
        assert not v["allowed"] and v["reason"] in ("bad_request", "not_listed", "special_address", "port_not_allowed")
    assert len(world.inside.seen) == before


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.9.8.7"], ["169.254.169.254"], ["224.0.0.5"], ["0.0.0.0"], ["::1"], ["fe80::1"], ["fd00:ec2::254"],
                                       ["::ffff:10.0.0.1"], [PUBLIC, "127.0.0.1"], ["8.8.8.8", "192.168.0.1"]])
def test_names_that_point_inside(world, proxies, addresses):
    world.dns.names["turned.test"] = addresses
    world.dns.names["alias.test"] = "turned.test"
    p = proxies({"mode": "open"})
    for host in ("turned.test", "alias.test"):
        answer = p.raw(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        assert status(answer) == 403 and b"special_address" in answer
        assert p.verdict()["reason"] == "special_address"


def test_this_machines_own_address(world, proxies):
    """A public address of the host itself is the host."""
    own = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None)}
    for address in own:
        world.dns.names["own.test"] = [address]
        p = proxies({"mode": "open"})
        assert status(p.raw(b"CONNECT own.test:443 HTTP/1.1\r\n\r\n")) == 403


def test_an_answer_that_changes(world, proxies):
    """The address that was looked at is the one that is dialled: one question per connection."""
    world.dns.names["rebind.test"] = [[PUBLIC], ["127.0.0.1"]]
    p = proxies(allow(f"rebind.test:{world.http.port}"))
    before = len(world.http.seen)
    assert status(p.raw(f"GET http://rebind.test:{world.http.port}/ HTTP/1.1\r\n\r\n".encode())) == 200
    assert status(p.raw(f"GET http://rebind.test:{world.http.port}/ HTTP/1.1\r\n\r\n".encode())) == 403
    assert len(world.http.seen) == before + 1


def test_ports_deny_and_modes(world, proxies):
    p = proxies({"mode": "allow", "allow": ["shop.test"], "deny": ["bad.shop.test"]})
    assert b"port_not_allowed" in p.raw(b"CONNECT shop.test:25 HTTP/1.1\r\n\r\n")
    p.setup({"mode": "open", "deny": ["shop.test"]})
    assert b"X-Berth-Egress: denied" in p.raw(b"CONNECT shop.test:443 HTTP/1.1\r\n\r\n")
    p.setup({"mode": "none"})
    assert b"network_off" in p.raw(b"CONNECT shop.test:443 HTTP/1.1\r\n\r\n")
    p.setup({"mode": "everything"})
    assert b"network_off" in p.raw(b"CONNECT shop.test:443 HTTP/1.1\r\n\r\n")


def test_tls_must_name_the_host(world, proxies):
    """In mode allow the name inside TLS is the name that was asked for; port 443 is what the rule says, so a fixed host is used."""
    p = proxies(allow("shop.test"))

    def hello(name):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
        return outgoing.read()

    listener = socket.socket()
    try:
        listener.bind((PUBLIC, 443))
    except PermissionError:
        pytest.skip("port 443 needs root")
    listener.listen(8)
    listener.settimeout(30)
    for data in (hello("git.test"), hello(None), b"SSH-2.0-OpenSSH_9.2\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        assert p.raw(b"CONNECT shop.test:443 HTTP/1.1\r\n\r\n", data).startswith(b"HTTP/1.1 200")
        assert p.verdict()["reason"] == "name_mismatch"
        peer, _ = listener.accept()
        assert peer.recv(100) == b""
        peer.close()
    data = hello("shop.test")
    with p.connect() as s:
        s.sendall(b"CONNECT shop.test:443 HTTP/1.1\r\n\r\n")
        assert s.recv(1000).startswith(b"HTTP/1.1 200")
        peer, _ = listener.accept()
        for i in range(0, len(data), 50):
            s.sendall(data[i:i + 50])
        got = b""
        while len(got) < len(data):
            got += peer.recv(65536)
        assert got == data
        peer.close()
    listener.close()


def test_credentials_are_added_outside(world, proxies, tmp_path):
    secret = "Basic " + base64.b64encode(b"bot:CANARY-egress").decode()
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps([{"host": "git.test", "header": "Authorization", "value": secret, "port": world.tls.port, "paths": ["/org/"], "tenant": "default"}]))
    path.chmod(0o600)
    p = proxies(allow("git.test"), "--credentials", path, "--ca", world.ca)
    code, codes, body, err = p.curl("http://git.test/org/repo", "-H", "Authorization: mine", "-d", "hello")
    assert code == 0 and codes[0] == "200" and json.loads(body)["path"] == "/org/repo", err
    assert world.tls.seen[-1]["headers"]["Authorization"] == secret and world.tls.seen[-1]["body"] == b"hello"
    assert "CANARY" not in body
    before = len(world.tls.seen)
    for other in ("/other/repo", "/org/../other", "/org/%2e%2e/other", "/org//x/..", "/organisation"):
        p.raw(f"GET http://git.test{other} HTTP/1.1\r\n\r\n".encode())
    assert len(world.tls.seen) == before  # plain port 80 was dialled, where nobody is
    p.setup(allow("git.test"), tenant="another")
    assert status(p.raw(b"GET http://git.test/org/repo HTTP/1.1\r\n\r\n")) == 502
    untrusting = proxies(allow("git.test"), "--credentials", path)
    assert b"no trusted TLS" in untrusting.raw(b"GET http://git.test/org/repo HTTP/1.1\r\n\r\n")
    assert "CANARY" not in p.log.name and len(world.tls.seen) == before
    path.chmod(0o644)
    broken = Proxy(None, "--credentials", path)
    assert broken.process.wait(30) == 1
    broken.log.seek(0)
    assert b"only its owner may read" in broken.log.read()
    broken.control.close()


def test_a_second_request_goes_nowhere(world, proxies):
    p = proxies(allow(f"shop.test:{world.http.port}"))
    before = len(world.http.seen)
    p.raw(f"POST http://shop.test:{world.http.port}/one HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /two HTTP/1.1\r\nHost: inside\r\n\r\n".encode())
    assert [s["path"] for s in world.http.seen[before:]] == ["/one"]


def test_limits(world, proxies):
    p = proxies(allow("shop.test"))
    held = [p.connect() for _ in range(128)]
    wait_until(lambda: status(p.raw(b"GET http://shop.test/ HTTP/1.1\r\n\r\n")) == 503, 30)
    for s in held:
        s.close()
    wait_until(lambda: status(p.raw(b"CONNECT other.test:443 HTTP/1.1\r\n\r\n")) == 403, 30)
    assert status(p.raw(b"GET http://shop.test/ HTTP/1.1\r\nA: " + b"x" * 20000)) == 400
    assert status(p.raw(b"GET http://nowhere.test/ HTTP/1.1\r\n\r\n")) == 403
    p.setup({"mode": "open"})
    assert status(p.raw(b"GET http://nowhere.test/ HTTP/1.1\r\n\r\n")) == 502


# --- the product -------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def networked(world):
    berth = Berth(workers=1, settings={"workerd": {
        "egress_hosts": f"shop.test={PUBLIC},late.test={PUBLIC}", "egress_private": PUBLIC}})
    try:
        yield berth.start()
    finally:
        berth.close()


def shell(command):
    return {"tools": [["bash", {"command": command}]]}


def outputs(berth, session):
    return ["".join(b.get("text", "") for b in e["tool_output"]) for e in berth.events(session["session_id"]) if e["event_type"] == "post_tool"]


def test_a_session_with_an_allow_list(networked, world):
    port = world.http.port
    session = networked.create([
        shell(f"curl -sS -m 20 http://shop.test:{port}/hello; python3 -c \"import urllib.request as u; print(u.urlopen('http://shop.test:{port}/py').status)\""),
        shell(f"curl -sS -m 20 -w '%{{http_code}}' http://late.test:{port}/; curl -sS -m 20 -w '%{{http_code}}' http://late.test:{port}/"),
        shell(f"curl -sS -m 5 --noproxy '*' http://{PUBLIC}:{port}/ 2>&1; getent hosts shop.test || echo no-dns; tail -n +3 /proc/net/dev | cut -d: -f1"),
        {"text": "waiting"}], network=allow(f"shop.test:{port}"))
    networked.wait_status(session["session_id"], "idle")
    out = outputs(networked, session)
    assert '"path": "/hello"' in out[0] and "200" in out[0]
    assert out[1].count("403") == 2 and "a person can allow it" in out[1]
    assert "Couldn't connect" in out[2] or "Failed to connect" in out[2]
    assert "no-dns" in out[2] and out[2].split()[-1] == "lo"
    wait_until(lambda: any(e["event_type"] == "approval_requested" for e in networked.events(session["session_id"])), 30)
    events = networked.events(session["session_id"])
    denied = [e for e in events if e["event_type"] == "network_denied"]
    assert [(e["host"], e["port"], e["reason"]) for e in denied] == [("late.test", port, "not_listed")]
    asked = [e for e in events if e["event_type"] == "approval_requested"]
    assert len(asked) == 1 and asked[0]["kind"] == "network"
    networked.call("POST", f"/sessions/{session['session_id']}/approvals/{asked[0]['approval_id']}", 200, json={"decision": "allow", "scope": "session"})
    wait_until(lambda: any(e["event_type"] == "approval_decided" for e in networked.events(session["session_id"])), 30)
    script = json.dumps([shell(f"for i in $(seq 40); do curl -sS -m 20 http://late.test:{port}/now && break; sleep 0.5; done"), {"text": "done"}])
    networked.call("POST", f"/sessions/{session['session_id']}/messages", 202, json={"content": f"SCRIPT: {script}"})
    wait_until(lambda: any('"path": "/now"' in o for o in outputs(networked, session)), 60)
    networked.call("DELETE", f"/sessions/{session['session_id']}", 204)


def test_no_network_by_default(networked, world):
    session = networked.create([shell(f"curl -sS -m 20 -w '%{{http_code}}' http://shop.test:{world.http.port}/"), {"text": "ok"}])
    networked.wait_status(session["session_id"], "idle")
    assert "403" in outputs(networked, session)[0] and "no network" in outputs(networked, session)[0]
    networked.call("DELETE", f"/sessions/{session['session_id']}", 204)


@pytest.mark.parametrize("network,field", [({"mode": "all"}, "mode"), ({"allow": ["http://x.test"]}, "allow[0]"), ({"allow": ["*.com"]}, "allow[0]"), ({"hosts": []}, "hosts")])
def test_bad_policies_are_refused(networked, network, field):
    reply = networked.http.post(networked.url("/sessions"), json={"network": network})
    assert reply.status_code in (400, 422) and field in reply.json()["error"]["message"], reply.text


def test_no_proxy_is_said_at_once(own_berth):
    """A proxy that cannot be started: programs get 503 instead of waiting, each time, and the session goes on."""
    b = own_berth(workers=1, settings={"workerd": {"egress_helper": "/nonexistent/berth-egress"}})
    ask = "python3 -c \"import urllib.request as u\ntry: u.urlopen('http://example.com/', timeout=60)\nexcept Exception as e: print(getattr(e, 'code', e), e.read().decode())\""
    s = b.create([{"tools": [["bash", {"command": ask}], ["bash", {"command": ask}], ["bash", {"command": "echo still here"}]]}, {"text": "done"}],
                 network={"mode": "open"})["session_id"]
    b.wait_status(s, "idle", seconds=60)
    said = ["".join(p.get("text", "") for p in e["tool_output"]) for e in b.events(s) if e["event_type"] == "post_tool"]
    assert all(text.startswith("503 The network proxy of this sandbox is not running") for text in said[:2]), said
    assert said[2] == "still here"
