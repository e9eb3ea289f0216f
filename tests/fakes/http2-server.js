// HTTP/2 over TLS for the HTTP client's test: streams five chunks, then how many connections it has seen.
// usage: node http2-server.js KEY CERT; prints its port. Ends when its standard input does.
'use strict';
const http2 = require('http2');
const fs = require('fs');

const server = http2.createSecureServer({
  key: fs.readFileSync(process.argv[2]),
  cert: fs.readFileSync(process.argv[3]),
});
let connections = 0;
server.on('secureConnection', () => connections++);
server.on('stream', (stream) => {
  stream.on('error', () => {});
  stream.respond({ ':status': 200, 'x-test': 'h2' });
  let n = 0;
  const timer = setInterval(() => {
    if (stream.destroyed) {
      clearInterval(timer);
    } else if (++n <= 5) {
      stream.write(`chunk ${n}\n`);
    } else {
      clearInterval(timer);
      stream.end(`connections ${connections}\n`);
    }
  }, 10);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
