"""POST /models/test: a key is tried where model calls are made; what is wrong comes back in words; the key stays nowhere."""
import subprocess
import sys

import pytest

from conftest import Berth, free_port

RIGHT = "sk-right-5b1f0c7e-0d0f-4f6e"
WRONG = "sk-wrong-c2a9d1aa-77aa-4c55"


@pytest.fixture(scope="module")
def berth():
    b = Berth(workers=1, job_workers=1, settings={"workerd": {"egress_private": "127.0.0.2/32, 127.0.0.3/32"}}).start()
    b.model.RequestHandlerClass.fake.key = RIGHT
    yield b
    b.close()


def trial(berth, expect=200, **body):
    body = {"provider": "anthropic", "model": "claude-demo", **body}
    return berth.call("POST", "/models/test", expect, json=body, timeout=60).json()


def test_right_and_wrong_keys(berth):
    good = trial(berth, key=RIGHT)
    assert good["ok"] is True and good["code"] == "ok" and good["status"] == 200 and good["model"], good
    assert good["managed"] is False and good["duration_ms"] >= 0
    bad = trial(berth, key=WRONG)
    assert bad["ok"] is False and bad["code"] == "key_refused" and bad["status"] == 401, bad
    assert "key was refused" in bad["message"] and "invalid x-api-key" in bad["message"] and WRONG not in bad["message"]
    none = trial(berth)
    assert none["code"] == "key_refused", none


def test_addresses(berth):
    port = berth.model.server_address[1]
    # The worker's own URL may be private; any other one only where egress_private says so.
    refused = trial(berth, key=RIGHT, base_url=f"http://localhost:{port}")
    assert refused["ok"] is False and refused["code"] == "address_refused" and "egress_private" in refused["message"], refused
    assert trial(berth, key=RIGHT, base_url="http://169.254.169.254")["code"] == "address_refused"
    away = trial(berth, key=RIGHT, base_url=f"http://127.0.0.2:{free_port()}")
    assert away["code"] == "model_unreachable" and "could not be reached" in away["message"], away
    nobody = trial(berth, key=RIGHT, base_url="https://no-such-host.invalid")
    assert nobody["code"] == "model_unreachable", nobody


def test_what_answers_is_no_model(berth):
    page = subprocess.Popen([sys.executable, "-c", "import http.server\nclass H(http.server.BaseHTTPRequestHandler):\n def do_POST(self):\n  self.send_response(404 if 'chat' in self.path else 200); self.end_headers(); self.wfile.write(b'hello')\n"
                             "s = http.server.HTTPServer(('127.0.0.3', 0), H); print(s.server_address[1], flush=True); s.serve_forever()"], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.3:{int(page.stdout.readline())}"
        odd = trial(berth, key=RIGHT, base_url=url)
        assert odd["ok"] is False and "not like a model" in odd["message"], odd
        gone = trial(berth, provider="openai", key=RIGHT, base_url=url)
        assert gone["code"] == "not_found", gone
    finally:
        page.kill()
        page.wait()


def test_bad_bodies_and_who_may(berth):
    for field, body in {"provider": {"provider": "cohere"}, "base_url": {"base_url": "file:///etc/passwd"}, "key": {"key": "two words"}, "model": {"model": ""}, "nope": {"nope": 1}}.items():
        assert trial(berth, 400, **body)["error"]["field"] == field
    for url in ("http://", "http:///v1", "http://user@host", "http://host/?a=b", "http://host/a b"):
        assert trial(berth, 400, base_url=url)["error"]["field"] == "base_url"
    token = berth.call("POST", "/tokens", 201, json={"name": "op", "role": "operator"}).json()["token"]
    reply = berth.call("POST", "/models/test", json={"provider": "anthropic", "model": "m"}, headers={"Authorization": f"Bearer {token}"})
    assert reply.status_code == 403


def test_keys_are_kept_nowhere(berth):
    trial(berth, key=RIGHT)
    trial(berth, key=WRONG)
    for key in (RIGHT, WRONG):
        for path in (berth.folder / "s").rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert key.encode() not in path.read_bytes(), path


def test_without_a_worker_for_jobs():
    b = Berth(workers=1).start()
    try:
        reply = trial(b, 503, key=RIGHT)
        assert "no worker serves jobs" in reply["error"]["message"], reply
    finally:
        b.close()
