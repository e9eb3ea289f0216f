"""The example configurations of nginx and Caddy as they are, but for names, ports and a certificate of the test's own."""
import asyncio
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import time
import warnings

import pytest
import requests
import websockets

from conftest import ROOT, free_port, wait_until
from tenants import make_token


@pytest.fixture(scope="module")
def stack(request):
    from conftest import Berth
    b = Berth(settings={"gatewayd": {"trusted_proxies": "127.0.0.1", "connections_per_address": 6}})
    try:
        yield b.start()
    finally:
        b.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    return folder


def nginx(stack, certificate, folder, port):
    text = (ROOT / "examples" / "nginx.conf").read_text()
    text = text[:text.index("server {\n    listen 80;")]
    for old, new in (("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"), ("    listen [::]:443 ssl http2;\n", ""), ("127.0.0.1:8765", f"127.0.0.1:{stack.stack.port}"),
                     ("/etc/letsencrypt/live/berth.example.org/fullchain.pem", str(certificate / "cert.pem")),
                     ("/etc/letsencrypt/live/berth.example.org/privkey.pem", str(certificate / "key.pem")), ("berth.example.org", "localhost")):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"
                                       f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; {text} }}")
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], {}


def caddy(stack, certificate, folder, port):
    text = (ROOT / "examples" / "Caddyfile").read_text()
    for old, new in (("berth.example.org {", f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\nhttps://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate}/cert.pem {certificate}/key.pem"),
                     ("127.0.0.1:8765", f"127.0.0.1:{stack.stack.port}")):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request, stack, certificate, tmp_path_factory):
    if not shutil.which(request.param) and not pathlib.Path(f"/usr/sbin/{request.param}").exists():
        pytest.skip(f"{request.param} is not installed")
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    argv, env = {"nginx": nginx, "caddy": caddy}[request.param](stack, certificate, folder, port)
    log = open(folder / "log", "wb")
    process = subprocess.Popen(argv, stdout=log, stderr=log, env={"PATH": "/usr/bin:/usr/sbin:/bin", **env})
    http = requests.Session()
    http.trust_env = False  # neither a proxy nor other certificates of the environment
    http.verify = str(certificate / "cert.pem")
    http.headers["Authorization"] = f"Bearer {stack.stack.token}"
    http.url, http.kind = f"https://localhost:{port}", request.param
    http.context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))

    def up():
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return http.get(http.url + "/health", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False
    wait_until(up, 30, lambda: (folder / "log").read_text())
    yield http
    process.kill()  # Caddy would wait for its streams
    process.wait(15)


def test_calls_and_headers(proxy):
    reply = proxy.get(proxy.url + "/me", timeout=10)
    assert reply.status_code == 200 and reply.json()["role"] == "admin"
    assert reply.headers["Strict-Transport-Security"] and reply.headers["X-Content-Type-Options"] == "nosniff" and reply.headers["X-Request-Id"]
    assert proxy.get(proxy.url + "/me", headers={"Authorization": ""}, timeout=10).status_code == 401


def handshake(proxy, versions, ciphers):
    """What is agreed on by a client that would take anything of this: (version, cipher), or the alert's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")  # else it is our own library that refuses
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = versions
    with socket.create_connection(("127.0.0.1", int(proxy.url.rsplit(":", 1)[1])), timeout=10) as s:
        try:
            with context.wrap_socket(s, server_hostname="localhost") as t:
                assert t.compression() is None
                return t.version(), t.cipher()[0]
        except ssl.SSLError as e:
            return e.reason


def test_old_tls_is_refused(proxy):
    """What testssl would mark down: old versions, ciphers without encryption, authentication, forward secrecy or a tag."""
    v = ssl.TLSVersion
    for old in (v.TLSv1, v.TLSv1_1):
        assert "PROTOCOL_VERSION" in handshake(proxy, (old, old), "ALL"), old
    for weak in ("eNULL", "aNULL", "PSK", "kRSA", "3DES", "CAMELLIA", "ARIA", "AESCCM", "DHE", "SHA1", "SHA256+AES:!AESGCM", "SHA384+AES:!AESGCM"):
        try:
            agreed = handshake(proxy, (v.TLSv1_2, v.TLSv1_2), weak)
        except ssl.SSLError:  # the library has none of them any more
            continue
        if agreed == "NO_CIPHERS_AVAILABLE":  # nor for this version
            continue
        if agreed[0] == "TLSv1.2":
            # Caddy still has one of this kind, last in its list.
            assert agreed[1].startswith("ECDHE-"), (weak, agreed)
            assert proxy.kind == "caddy", (weak, agreed)
        else:
            assert agreed == "SSLV3_ALERT_HANDSHAKE_FAILURE", (weak, agreed)
    for version in (v.TLSv1_2, v.TLSv1_3):
        name, cipher = handshake(proxy, (version, version), "ALL")
        assert name == version.name.replace("v1_", "v1.") and ("GCM" in cipher or "CHACHA20" in cipher), (name, cipher)


def test_testssl(proxy, request, tmp_path):
    """All of testssl.sh, about a minute each: nothing but what this certificate is marked down for. BREACH is no matter where what is
    compressed holds no secret: only files of the page are. Caddy's tickets are good for a week, says Go; their keys change each day."""
    if not request.config.getoption("--nightly") or not shutil.which("testssl"):
        pytest.skip("with --nightly and testssl.sh")
    done = subprocess.run(["testssl", "--quiet", "--color", "0", "--warnings", "off", "--jsonfile", tmp_path / "found", "--ip", "one", proxy.url],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    found = json.loads((tmp_path / "found").read_text())
    assert len(found) > 100, done.stdout[-2000:]
    bad = [f for f in found if f["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL") and
           not f["id"].startswith(("cert_", "DNS_CAA", "BREACH", *(["TLS_session_ticket"] if proxy.kind == "caddy" else [])))]
    assert not bad, bad


def test_renegotiation_is_refused(proxy):
    """The client asks (R) and is sent away; its input stays open, so that it does not leave by itself."""
    port = int(proxy.url.rsplit(":", 1)[1])
    with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-servername", "localhost"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        client.stdin.write("R\n")
        client.stdin.flush()
        try:
            assert client.wait(30) != 0
        finally:
            client.kill()
        said = client.stdout.read()
    assert "RENEGOTIATING" in said and re.search("no renegotiation|unexpected message", said), said[-1500:]


def test_streams_come_at_once(proxy, stack):
    session = stack.create(kind="external")["session_id"]

    async def run():
        head = {"Authorization": f"Bearer {stack.stack.token}"}
        async with websockets.connect(proxy.url.replace("https", "wss") + "/ws", ssl=proxy.context, extra_headers=head, max_size=None, origin=proxy.url) as ws:
            assert json.loads(await ws.recv())["type"] == "init"
            began = time.monotonic()
            stack.call("POST", "/events", 201, json={"session_id": session, "event_type": "log", "message": "through the proxy"})
            while "through the proxy" not in await asyncio.wait_for(ws.recv(), 10):
                pass
            assert time.monotonic() - began < 2
        # A page of another site gets no stream, through the proxy neither.
        with pytest.raises(websockets.InvalidStatusCode) as e:
            await websockets.connect(proxy.url.replace("https", "wss") + "/ws", ssl=proxy.context, extra_headers=head, origin="https://evil.example")
        assert e.value.status_code == 403
        # The display's path is an upgrade like any; this session has none.
        with pytest.raises(websockets.InvalidStatusCode) as e:
            await websockets.connect(proxy.url.replace("https", "wss") + f"/sessions/{session}/vnc", ssl=proxy.context, extra_headers=head, subprotocols=["binary"])
        assert e.value.status_code == 409
    asyncio.run(run())
    sse = proxy.get(proxy.url + f"/sessions/{session}/stream", headers={"Accept": "text/event-stream"}, stream=True, timeout=10)
    lines = sse.iter_lines()
    assert any(b"through the proxy" in line for line in lines)
    stack.call("POST", "/events", 201, json={"session_id": session, "event_type": "log", "message": "and again"})
    began = time.monotonic()
    assert any(b"and again" in line for line in lines) and time.monotonic() - began < 2
    sse.close()


def test_uploads_pass_whole(proxy):
    data = bytes(range(256)) * (20 << 12)  # 20 MiB
    made = proxy.post(proxy.url + "/documents", files={"file": ("big.bin", data)}, timeout=60)
    assert made.status_code == 201, made.text
    got = proxy.get(proxy.url + made.json()["url"], timeout=60)
    assert got.content == data
    part = proxy.get(proxy.url + made.json()["url"], headers={"Range": "bytes=256-511"}, timeout=10)
    assert part.status_code == 206 and part.content == bytes(range(256))
    proxy.delete(proxy.url + made.json()["url"], timeout=10)


def test_the_clients_address_is_told_and_not_believed_from_others(proxy, stack):
    """The audit log has the client's address. What the client itself wrote in front is not believed."""
    token = make_token(stack, "viewer", "default", "behind")
    denied = proxy.post(proxy.url + "/sessions", json={}, headers={"Authorization": f"Bearer {token}", "X-Forwarded-For": "198.51.100.7"}, timeout=10)
    assert denied.status_code == 403
    rows = []
    wait_until(lambda: rows.extend(stack.call("GET", "/audit", 200, params={"request_id": denied.headers["X-Request-Id"]}).json()["audit"]) or rows, 15, "the row")
    # nginx passes on what the client wrote (it is before its own word, which counts: here the test itself, on loopback, is trusted and so it is the one
    # before it); Caddy throws it away.
    assert rows[0]["address"] in ("198.51.100.7", "127.0.0.1")
    # Many clients through one proxy are not one client.
    many = [proxy.get(proxy.url + "/health", stream=True, timeout=10) for _ in range(20)]
    assert all(r.status_code == 200 for r in many)


def test_streams_count_for_the_client_behind(proxy, stack):
    """Six streams of one client at most (the setting), as told by the proxy; another client has its own six."""
    if proxy.get(proxy.url + "/health", timeout=5).headers.get("Server", "").lower().startswith("caddy"):
        pytest.skip("Caddy does not pass on what a client wrote; the addresses of this test are one")
    session = stack.create(kind="external")["session_id"]

    def stream(address):
        return proxy.get(proxy.url + f"/sessions/{session}/stream", headers={"Accept": "text/event-stream", "X-Forwarded-For": address}, stream=True, timeout=10)
    held = [stream("203.0.113.1") for _ in range(6)]
    assert [r.status_code for r in held] == [200] * 6
    refused = stream("203.0.113.1")
    assert refused.status_code == 429 and refused.headers["Retry-After"]
    other = stream("203.0.113.2")
    assert other.status_code == 200
    for r in [*held, refused, other]:
        r.close()
