// An MCP server made with the protocol's own SDK whose tools change while it runs: calling `grow` registers `grown`, which the SDK
// tells on the stream that stands (GET). Prints its port, then the number of streams that were opened.
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

const sessions = new Map();
let streams = 0;

async function open() {
  const server = new McpServer({ name: "standing", version: "1" });
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, onsessioninitialized: (id) => sessions.set(id, transport) });
  server.registerTool("grow", { description: "makes another tool" }, async () => {
    server.registerTool("grown", { description: "was made later" }, async () => ({ content: [{ type: "text", text: "I am new" }] }));
    return { content: [{ type: "text", text: "there is more now" }] };
  });
  await server.connect(transport);
  return transport;
}

const http = createServer(async (request, response) => {
  if (request.method === "GET") console.log(`streams ${++streams}`);
  const known = sessions.get(request.headers["mcp-session-id"]);
  let body = "";
  for await (const piece of request) body += piece;
  await (known ?? (await open())).handleRequest(request, response, body ? JSON.parse(body) : undefined);
});
http.listen(0, "127.0.0.1", () => console.log(`port ${http.address().port}`));
