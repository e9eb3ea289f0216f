"""What an outsider tries for longer: guessing tickets, tickets of another page, slow attacks and floods by the tools made for that."""
import os
import re
import shutil
import subprocess

import pytest
import requests

from conftest import wait_until
from edge_fixtures import edge, own_edge  # noqa: F401


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def test_guessed_tickets_are_counted_and_slowed(own_edge):  # noqa: F811
    """After the burst everything that comes from there is 429 with Retry-After; a good token is taken again when the address has paused."""
    edge = own_edge(failures_per_second="1", failures_burst="30")
    token = edge.make_token("viewer")
    http = requests.Session()
    answers = [http.get(f"http://127.0.0.1:{edge.port}/sessions/x/attachments/{'0' * 64}", params={"token": "tk_" + f"{n:043d}"}, timeout=20) for n in range(150)]
    codes = [a.status_code for a in answers]
    assert set(codes) == {401, 429} and codes[:20] == [401] * 20
    assert all(int(a.headers["Retry-After"]) >= 1 for a in answers if a.status_code == 429)
    wait_until(lambda: edge.request("GET", "/me", token=token)[0] == 200, 30, "the address to be heard again")


def test_a_ticket_is_for_the_page_that_asked(edge):  # noqa: F811
    base, mine = f"http://127.0.0.1:{edge.port}", {"Authorization": f"Bearer {edge.user}"}
    where = f"{base}/sessions/x/attachments/{'0' * 64}"

    def ticket(**headers):
        reply = requests.post(base + "/tickets", json={}, headers={**mine, **headers}, timeout=20)
        assert reply.status_code == 201, reply.text
        return reply.json()["ticket"]

    def use(one, **headers):
        return requests.get(where, params={"token": one}, headers=headers, timeout=20).status_code
    page, other = f"http://127.0.0.1:{edge.port}", "http://evil.example"
    assert use(ticket(Origin=page), Origin=page) == 404 and use(ticket(Origin=page)) == 404 and use(ticket()) == 404
    stolen = ticket(Origin=page)
    assert use(stolen, Origin=other) == 401 and use(stolen, Origin=page) == 401, "used up"


@needs("slowhttptest")
@pytest.mark.parametrize("mode", [["-H"], ["-B"], ["-X", "-w", "16", "-y", "32", "-n", "2", "-z", "16"], ["-R", "-a", "10", "-b", "3000"]], ids=["head", "body", "read", "range"])
def test_slow_attacks_hold_nobody_up(own_edge, mode, tmp_path):  # noqa: F811
    """400 connections of each kind; an honest client on another address is answered all the while, and nothing is left behind."""
    edge = own_edge(connections_per_address="100", head_timeout="2s", body_timeout="2s", failures_per_second="0", requests_per_second="0")
    path = "/app-3F2A9C1B.js" if mode[0] in ("-X", "-R") else "/tickets"
    attack = subprocess.Popen(["slowhttptest", *mode, "-c", "400", "-r", "400", "-i", "1", "-l", "6", "-p", "3", "-u", f"http://127.0.0.1:{edge.port}{path}"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    answered = 0
    try:
        while attack.poll() is None:
            assert edge.request("GET", "/me", token=edge.user)[0] == 200
            answered += 1
    finally:
        attack.kill()
        attack.wait()
    assert answered > 0
    pid = edge.services["gatewayd"].process.pid
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 80, 30, "the attack's connections to be gone")


@needs("wrk")
@pytest.mark.parametrize("kind", ["token", "public", "logins"])
def test_a_flood_leaves_the_others_their_share(own_edge, kind):  # noqa: F811
    """wrk far beyond the rate of one token, of an address without any, of failed logins: 429s, and most of them late, so that the flood
    itself is slow: another tenant's calls are all answered. What that is in milliseconds bench/flood measures."""
    edge = own_edge(requests_per_second="50", requests_burst="50", connections_per_address="200")
    other = edge.make_token("viewer", "other")
    path, header = {"token": ("/me", f"Authorization: Bearer {edge.user}"), "public": ("/health", "X-Nothing: x"), "logins": ("/me", "Authorization: Bearer wrong")}[kind]
    flood = subprocess.Popen(["wrk", "-t1", "-c50", "-d4s", "-H", header, f"http://127.0.0.1:{edge.port}{path}"], stdout=subprocess.PIPE, text=True)
    codes = []
    while flood.poll() is None:
        codes.append(edge.request("GET", "/me", token=other)[0])
    out = flood.stdout.read()
    refused, total = re.search(r"Non-2xx or 3xx responses: (\d+)", out), re.search(r"(\d+) requests in", out)
    assert refused and int(refused[1]) > 100, out
    # 50 connections, four a second each; 300 refused at once; what is allowed.
    assert int(total[1]) < 2500, out
    if kind != "logins":  # its address is shut out
        assert set(codes[:50]) == {200}, set(codes)
