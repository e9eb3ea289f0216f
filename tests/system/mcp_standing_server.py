"""FAKE of an MCP server that tells of changed tools on a stream that stands, in either era; cuts the stream as often as it is told. As a thread of the test."""
import http.server
import json
import queue
import threading

META = "io.modelcontextprotocol/"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=None, **headers):
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def stand(self, first):
        """A stream of events; the first `cuts` of them end at once."""
        server = self.server
        server.streams.append(dict(self.headers))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(f"id: e{len(server.streams)}\nretry: 10\ndata: {json.dumps(first)}\n\n".encode() if first else b": here\n\n")
        self.wfile.flush()
        if len(server.streams) <= server.cuts:
            return
        while True:
            message = server.notices.get()
            if message is None:
                return
            self.wfile.write(f"data: {json.dumps(message)}\n\n".encode())
            self.wfile.flush()

    def do_GET(self):
        if self.server.modern:
            return self.reply(405)
        if self.server.refuses:
            self.server.streams.append(dict(self.headers))
            return self.reply(self.server.refuses)
        self.stand({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "hello"}} if self.server.cuts < 50 else None)

    def do_POST(self):
        server = self.server
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method, done = message["method"], {"resultType": "complete"} if server.modern else {}
        if "id" not in message:
            return self.reply(202)
        capabilities = {"tools": {"listChanged": True}}
        if method == "subscriptions/listen" and server.modern:
            assert message["params"]["notifications"] == {"toolsListChanged": True} and self.headers["mcp-method"] == method
            return self.stand({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"toolsListChanged": True}}})
        if method == "server/discover" and server.modern:
            done |= {"supportedVersions": ["2026-07-28"], "capabilities": capabilities, "ttlMs": 0, "cacheScope": "private"}
        elif method == "initialize" and not server.modern:
            return self.reply(200, {"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-11-25", "capabilities": capabilities,
                                                                                      "serverInfo": {"name": "standing", "version": "1"}}}, mcp_session_id="one")
        elif method == "tools/list":
            server.lists += 1
            done["tools"] = [{"name": n, "description": n, "inputSchema": {"type": "object"}} for n in server.tools]
        elif method == "tools/call":
            if message["params"]["name"] == "grow" and "grown" not in server.tools:
                server.tools.append("grown")
                server.notices.put({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            done["content"] = [{"type": "text", "text": f"{message['params']['name']} was called"}]
        else:
            return self.reply(404, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "not here"}})
        self.reply(200, {"jsonrpc": "2.0", "id": message["id"], "result": done})


def serve(modern=False, cuts=0, refuses=0):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.modern, server.cuts, server.refuses = modern, cuts, refuses
    server.streams, server.tools, server.lists, server.notices = [], ["grow"], 0, queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
