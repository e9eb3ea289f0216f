#!/usr/bin/env python3
"""The demo session by the public API: `start` makes it, `wait` follows it to its end and checks the result.

The page's demo button does the same as `start`. Reads BERTH_URL and BERTH_TOKEN from STATE/berth.env."""
import argparse
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request
import uuid


def connection(state):
    values = dict(line.split("=", 1) for line in (pathlib.Path(state) / "berth.env").read_text().splitlines())
    return values["BERTH_URL"], values["BERTH_TOKEN"]


def call(base, token, method, path, body=None, content_type="application/json"):
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(base + path, data, {"Authorization": f"Bearer {token}", "Content-Type": content_type}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read()
    except urllib.error.HTTPError as e:
        sys.exit(f"demo: {method} {path}: {e.code} {e.read().decode(errors='replace')[:400]}")


def upload(base, token, name, content_type, tags, data):
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="tags"\r\n\r\n{",".join(tags)}\r\n'.encode(),
             f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {content_type}\r\n\r\n'.encode(),
             data, f"\r\n--{boundary}--\r\n".encode()]
    return json.loads(call(base, token, "POST", "/documents", b"".join(parts), f"multipart/form-data; boundary={boundary}"))


def start(args):
    base, token = connection(args.state)
    scenario = json.loads(call(base, token, "GET", "/demo/scenario.json"))
    files = []
    for f in scenario["files"]:
        document = upload(base, token, f["filename"], f["content_type"], f["tags"], call(base, token, "GET", f["url"]))
        files.append({"document_id": document["id"], "path": f["path"]})
    session = json.loads(call(base, token, "POST", "/sessions", {
        "session_name": scenario["session_name"], "kind": scenario["kind"], "message": scenario["message"], "files": files}))
    (pathlib.Path(args.state) / "demo-session").write_text(session["session_id"])
    print(f"   demo session {session['session_id']}: watch it at {base}/s/{session['session_id']}#token={token}")


def wait(args):
    base, token = connection(args.state)
    session_id = (pathlib.Path(args.state) / "demo-session").read_text()
    deadline, seen = time.monotonic() + args.seconds, 0
    while True:
        events = json.loads(call(base, token, "GET", f"/events/{session_id}?after_seq={seen}&limit=200"))["events"]
        for event in events:
            seen = event["seq"]
            if event["event_type"] == "pre_tool":
                print(f"   {event['seq']:3} {event['tool_name']} {json.dumps(event['tool_input'])[:100]}", flush=True)
        session = json.loads(call(base, token, "GET", f"/sessions/{session_id}"))
        if not events and session["status"] in ("idle", "finished", "stopped", "failed"):
            break
        if time.monotonic() > deadline:
            sys.exit(f"demo: still {session['status']} after {args.seconds} s")
        time.sleep(0.3)
    names = {d["filename"] for d in json.loads(call(base, token, "GET", "/documents?tags=demo"))["documents"]}
    if session["status"] != "idle" or not {"open-orders.png", "report.md"} <= names:
        sys.exit(f"demo: ended {session['status']} ({session['error']}), documents {sorted(names)}")
    print(f"   demo finished: {session['usage']['turns']} turns, documents {', '.join(sorted(names))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["start", "wait"])
    parser.add_argument("--state", required=True)
    parser.add_argument("--seconds", type=int, default=180)
    args = parser.parse_args()
    {"start": start, "wait": wait}[args.what](args)


if __name__ == "__main__":
    main()
