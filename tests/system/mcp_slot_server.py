"""An MCP server for a slot, by standard input and output, without packages: the older protocol, two pages of tools, progress, a picture,
failures on request. FAKE of somebody's server; test_mcp.py puts it into the slot."""
import base64
import json
import struct
import sys
import time
import zlib


def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(b"".join(b"\0" + b"\x80" * width for _ in range(height)))) + chunk(b"IEND", b"")


def tool(name, properties=None, **more):
    return {"name": name, "description": f"does {name}", "inputSchema": {"type": "object", "properties": properties or {}}, **more}


more_tools = []
PAGES = {None: ([tool("echo", {"text": {"type": "string"}}), tool("steps"), tool("huge", inputSchema={"type": "object", "description": "x" * 40000})], "2"),
         "2": ([tool("picture"), tool("crash"), tool("silent"), tool("long"), tool("grow"), tool("odd.name/here"), tool("broken"), tool("echo")], None)}


def call(request, name, arguments):
    reply = {"content": [{"type": "text", "text": arguments.get("text", "")}]}
    if name == "steps":
        for i in range(3):
            send({"method": "notifications/progress", "params": {"progressToken": request["params"]["_meta"]["progressToken"], "progress": i, "total": 3, "message": "step"}})
        reply = {"content": [{"type": "text", "text": "stepped"}]}
    elif name == "picture":
        reply = {"content": [{"type": "text", "text": "look"}, {"type": "image", "mimeType": "image/png", "data": base64.b64encode(png(40, 30)).decode()},
                             {"type": "image", "mimeType": "image/jpeg", "data": "AAAA"}]}
    elif name == "crash":
        print("I give up", file=sys.stderr, flush=True)
        sys.exit(3)
    elif name == "silent":
        time.sleep(600)
    elif name == "long":
        reply = {"content": [{"type": "text", "text": "x" * 300000}]}
    elif name == "grow":
        more_tools.append(tool("late"))
        send({"method": "notifications/tools/list_changed"})
        send({"id": "their-own", "method": "ping"})
        reply = {"content": [{"type": "text", "text": "grown"}]}
    elif name == "broken":
        reply = {"content": [{"type": "text", "text": "it did not work"}], "isError": True}
    elif name in ("odd.name/here", "late"):
        reply = {"content": [{"type": "text", "text": name}]}
    send({"id": request["id"], "result": reply})


for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if method == "initialize":
        send({"id": message["id"], "result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}, "serverInfo": {"name": "slot", "version": "1"}}})
    elif method == "tools/list":
        tools, cursor = PAGES[message.get("params", {}).get("cursor")]
        send({"id": message["id"], "result": {"tools": tools + (more_tools if cursor is None else []), **({"nextCursor": cursor} if cursor else {})}})
    elif method == "tools/call":
        print("noise that is no message", flush=True)
        call(message, message["params"]["name"], message["params"].get("arguments") or {})
    elif "id" in message and method:
        send({"id": message["id"], "error": {"code": -32601, "message": f"no {method}"}})
