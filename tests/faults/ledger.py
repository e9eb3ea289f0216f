#!/usr/bin/python3
"""The effect ledger: one process outside of Berth, never restarted, that keeps every message that goes into a slot.

    ledger.py SOCKET FILE

Workers built with -Dfaults=true tell it (BERTH_LEDGER, see common/base/fault.h) before they send. A step's command holds
the text effect=ID; with each message that holds one, a line "ID" goes to FILE. An ID that is there twice had two effects."""
import os
import re
import socket
import sys

EFFECT = re.compile(rb"effect=([0-9a-z.-]+)")


def main():
    path, out = sys.argv[1:]
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    s.bind(path)
    os.chmod(path, 0o777)
    with open(out, "ab", buffering=0) as f:
        print("ready", flush=True)
        while True:
            for effect in EFFECT.findall(s.recv(1 << 17)):
                f.write(effect + b"\n")


if __name__ == "__main__":
    main()
