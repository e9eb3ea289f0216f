#!/usr/bin/python3
"""A fake display server in place of a slot's Xvnc, from an image that somebody tampered with. What it tells its first client is in the
file `lie` beside it; `real` makes it the real server."""
import os
import pathlib
import socket
import struct
import sys
import time

HERE = pathlib.Path(__file__).parent
LIE = (HERE / "lie").read_text().strip()
if LIE == "real":
    os.execv("/usr/bin/Xvnc", sys.argv)

GREETING = b"RFB 003.008\n" + b"\x01\x01" + bytes(4)


def init(width, height, name=b"slot"):
    return struct.pack(">HH", width, height) + bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]) + struct.pack(">I", len(name)) + name


def rect(x, y, w, h, encoding):
    return struct.pack(">HHHHi", x, y, w, h, encoding)


LIES = {
    "giant": lambda: GREETING + init(65535, 65535),
    "outside": lambda: GREETING + init(100, 80) + b"\0\0\0\1" + rect(65000, 65000, 65535, 65535, 0),
    "zlib bomb": lambda: GREETING + init(1280, 800) + b"\0\0\0\1" + rect(0, 0, 1280, 800, 6) + b"\xff\xff\xff\xff" + b"\x78\xda\xed\xc1" * 1000,
    "cut off": lambda: GREETING + init(1280, 800) + b"\0\0\0\1" + rect(0, 0, 1280, 800, 0) + bytes(5000),
}
connection, _ = socket.socket(fileno=0).accept()
connection.sendall(LIES[LIE]())
if LIE == "cut off":
    connection.shutdown(socket.SHUT_RDWR)
time.sleep(60)
