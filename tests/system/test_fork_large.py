"""A fork of a session with very many pictures: bounded answers, nobody else waits, and every picture is there."""
import os
import threading
import time

import psycopg
import requests

from conftest import wait_until

PICTURES, SIZE = 300, 200_000


def add_pictures(berth, session):
    password = berth.stack.secret("postgres").read_text().strip()
    with psycopg.connect(host=str(berth.stack.run_dir), user="postgres", password=password, dbname="berth") as db:
        with db.cursor().copy("COPY core.attachment (session_id, digest, media_type, data) FROM STDIN") as copy:
            for i in range(PICTURES):
                copy.write_row((session, f"{i:064x}", "image/png", os.urandom(SIZE)))


def test_fork_with_many_pictures(own_berth):
    berth = own_berth(workers=1)
    session = berth.create([{"text": "hello"}])["session_id"]
    berth.wait_status(session, "idle", seconds=60)
    add_pictures(berth, session)
    berth.call("POST", "/events", 201, json={"session_id": "beside", "event_type": "session_start"})
    stop, slowest, failed = threading.Event(), [0.0], []

    def others():
        while not stop.is_set():
            began = time.monotonic()
            reply = requests.post(berth.url("/events"), headers=berth.http.headers, json={"session_id": "beside", "event_type": "log", "message": "x"}, timeout=10)
            slowest[0] = max(slowest[0], time.monotonic() - began)
            if reply.status_code != 201:
                failed.append(reply.status_code)
    thread = threading.Thread(target=others)
    thread.start()
    began, answers = time.monotonic(), []

    def fork():
        asked = time.monotonic()
        reply = berth.call("POST", f"/sessions/{session}/fork", json={}, headers={"Idempotency-Key": "once"})
        answers.append((reply.status_code, time.monotonic() - asked))
        assert reply.status_code == 201 or (reply.status_code == 503 and reply.headers["Retry-After"]), reply.text
        return reply.json() if reply.status_code == 201 else None
    fork_of = wait_until(fork, 60, lambda: str(answers))["session_id"]
    took = time.monotonic() - began
    stop.set()
    thread.join()
    print(f"{PICTURES} pictures, {PICTURES * SIZE / 1e6:.0f} MB: forked in {took:.2f} s by {len(answers)} requests, the longest {max(a[1] for a in answers):.2f} s; "
          f"another session's slowest append meanwhile {slowest[0]:.2f} s")
    assert max(a[1] for a in answers) < 3 and slowest[0] < 2 and not failed, failed
    assert berth.sql(f"SELECT count(*), sum(octet_length(data)) FROM core.attachment WHERE session_id = '{fork_of}'") == f"{PICTURES}|{PICTURES * SIZE}"
    assert berth.call("GET", f"/sessions/{fork_of}/attachments/{7:064x}", 200).content == berth.call("GET", f"/sessions/{session}/attachments/{7:064x}", 200).content
    assert berth.sql("SELECT count(*) FROM core.session WHERE parent_session_id = '%s'" % session) == "1", "repeated, made once"
    assert berth.sql(f"SELECT count(*) FROM core.purge WHERE session_id = '{fork_of}'") == "0", "the guard is gone"
