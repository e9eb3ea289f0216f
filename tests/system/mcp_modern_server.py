"""FAKE of an MCP server of the newer protocol (2026-07-28): no sessions, server/discover, strict about headers. As a thread of the test."""
import http.server
import json
import threading

META = "io.modelcontextprotocol/"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((message, dict(self.headers)))
        meta = message.get("params", {}).get("_meta", {})
        name = message.get("params", {}).get("name")
        if message["method"] == "initialize":
            return self.reply(404, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "not here"}})
        if (self.headers["mcp-protocol-version"] != "2026-07-28" or meta.get(META + "protocolVersion") != "2026-07-28" or
                self.headers["mcp-method"] != message["method"] or self.headers["mcp-name"] != name or META + "clientCapabilities" not in meta):
            return self.reply(400, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32020, "message": "headers and body differ"}})
        done = {"resultType": "complete", "_meta": {META + "serverInfo": {"name": "modern", "version": "1"}}}
        if message["method"] == "server/discover":
            done |= {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
        elif message["method"] == "tools/list":
            done |= {"tools": [{"name": n, "description": n, "inputSchema": {"type": "object"}} for n in ("hello", "asks", "key")], "ttlMs": 0, "cacheScope": "private"}
        elif name == "asks":
            done = {"resultType": "input_required", "inputRequests": {}}
        elif name == "key":
            done["content"] = [{"type": "text", "text": self.headers.get("authorization", "none")}]
        else:
            done["content"] = [{"type": "text", "text": "modern greetings"}]
        self.reply(200, {"jsonrpc": "2.0", "id": message["id"], "result": done})


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
