#!/usr/bin/env python3
"""Judges request bodies that workerd builds by the vendor's TypeScript types: a misspelt or unknown field is a compile error.

usage: check.py TEST_BINARY|CAPTURED [WORK_FOLDER]     TEST_BINARY is test-workerd-anthropic-body of a build; test-workerd-property-7
                                              beside it gives the bodies of generated sessions (pictures, errors, refused approvals, summaries).
                                              CAPTURED (a name that ends in .jsonl) holds what the fake model was sent by the system tests
                                              (BERTH_CAPTURE), a body a line; of each conversation the longest one is judged, and the
                                              bytes of all: what a request marks for the prompt cache begins the next one too.
Needs npm; exits 77 when the packages cannot be had.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MARK = ',"cache_control":{"type":"ephemeral"}'
MESSAGES = '"messages":['
# What may change turns that were sent before: pictures that were forgotten, and a summary in place of the beginning.
REWRITTEN = re.compile(r"omitted|what follows is a summary|about to be shortened", re.I)


def captured(path):
    """Of each conversation (the same prompt, tools and beginning) the longest body: it holds the turns of all before."""
    longest = {}
    for line in path.read_text().split("\n") if path.exists() else []:
        body = json.loads(line or "{}")
        if "system" in body:  # the Messages API's, not chat completions
            key = json.dumps([body["system"], body["tools"] if "tools" in body else None, body["messages"][0]])
            if key not in longest or len(body["messages"]) > len(longest[key]["messages"]):
                longest[key] = body
    return list(longest.values())


def unstable(path):
    """(requests that go on a conversation, those of them that do not begin with the bytes of the turn before, up to its last mark)."""
    sent, goes_on, bad = {}, 0, []
    for line in path.read_text().split("\n") if path.exists() else []:
        if MARK not in line:
            continue
        body = json.loads(line)
        turns, kept = len(body["messages"]), line[:line.rindex(MARK)].replace(MARK, "")
        # The same prompt, tools and first message; several sessions may have those.
        first = json.dumps({k: v for k, v in body["messages"][0]["content"][0].items() if k != "cache_control"})
        before = sent.setdefault(line[:line.index(MESSAGES)].replace(MARK, "") + first, [])
        if before and turns > 1 and not REWRITTEN.search(kept):
            goes_on += 1
            if max((n for n, text in before if kept.startswith(text)), default=0) < turns - 2:
                bad.append(kept)
        before.append((turns, kept))
    return goes_on, bad


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    work = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="berth-peer-"))
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", work)
    if not (work / "node_modules" / ".bin" / "tsc").exists():
        if subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=work).returncode:
            print("the npm packages cannot be installed: skipped")
            return 77
    bodies = work / "bodies"
    bodies.unlink(missing_ok=True)
    strayed = []
    if binary.suffix == ".jsonl":
        lines = captured(binary)
        goes_on, strayed = unstable(binary)
        print(f"{goes_on} requests go on a conversation, {len(strayed)} of them not by the bytes that were marked for the cache")
        for one in strayed[:3]:
            print(f"  {one[-600:]}")
    else:
        for one in [binary, binary.with_name("test-workerd-property-7")]:
            if one.exists():
                subprocess.run([one], env={**os.environ, "BERTH_BODIES": str(bodies)}, stdout=subprocess.DEVNULL, check=True)
        lines = [json.loads(line) for line in bodies.read_text().split("\n") if line]
    text = ['import type { MessageCreateParamsStreaming } from "@anthropic-ai/sdk/resources/beta/messages";']
    text += [f"export const body{i}: MessageCreateParamsStreaming = {json.dumps(b)};" for i, b in enumerate(lines)]
    (work / "bodies.ts").write_text("\n".join(text) + "\n")
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "node16", "--moduleResolution", "node16"]
    good = subprocess.run(["npx", "tsc", *flags, "bodies.ts"], cwd=work).returncode
    # The judge must be awake: the same bodies with one misspelt field must not pass.
    (work / "bodies.ts").write_text("\n".join(text).replace('"max_tokens"', '"max_token"') + "\n")
    bad = subprocess.run(["npx", "tsc", *flags, "bodies.ts"], cwd=work, stdout=subprocess.DEVNULL).returncode
    print(f"{len(lines)} bodies: {'accepted' if good == 0 else 'REFUSED'}; misspelt: {'refused' if bad else 'ACCEPTED'}")
    return 0 if lines and good == 0 and bad != 0 and not strayed else 1


sys.exit(main())
