#!/usr/bin/env python3
"""FAKE of the outside world: an OpenAI-compatible embedding endpoint.

A text's vector counts its words, hashed into 512 places, after words that mean the same were made one: so that texts that share
meaning, by the small table below, are near each other, and others are not. A text with REFUSE in it is answered 400.
"""
import hashlib
import http.server
import json
import math
import re
import socketserver
import threading

DIMENSIONS = 512
SAME = {"car": "vehicle", "automobile": "vehicle", "lorry": "vehicle", "doctor": "physician", "medic": "physician", "boat": "ship", "vessel": "ship"}


def vector(text):
    places = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        word = SAME.get(word, word)
        places[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % DIMENSIONS] += 1.0
    size = math.sqrt(sum(p * p for p in places)) or 1.0
    return [p / size for p in places] if any(places) else [1.0] + [0.0] * (DIMENSIONS - 1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append({"headers": dict(self.headers), "body": body})
        if self.server.failing or any("REFUSE" in t for t in body["input"]):
            return self.answer(self.server.failing or 400, {"error": {"message": "fake refusal", "type": "invalid_request_error"}})
        data = [{"object": "embedding", "index": i, "embedding": vector(t)} for i, t in enumerate(body["input"])]
        self.answer(200, {"object": "list", "model": body["model"], "data": data[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}})


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.failing = [], 0


def serve():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
