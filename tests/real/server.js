// Serves the files of a directory, chunked, and keeps idle connections for 5 s.
'use strict';
const fs = require('fs');
const http = require('http');
const path = require('path');

const PIECE_BYTES = 10000;
const directory = process.argv[2];
const files = new Map(
  fs.readdirSync(directory).map((name) => [`/${name}`, fs.readFileSync(path.join(directory, name))]),
);

const server = http.createServer((request, response) => {
  const body = files.get(request.url.split('?')[0]);
  if (body === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'Content-Type': 'application/octet-stream' });
  let sent = 0;
  const send = () => {
    while (sent < body.length) {
      const piece = body.subarray(sent, sent + PIECE_BYTES);
      sent += piece.length;
      if (!response.write(piece)) {
        response.once('drain', send);
        return;
      }
    }
    response.end();
  };
  send();
});
server.keepAliveTimeout = 5000;
server.listen(0, '127.0.0.1', () => console.log(`listening on port ${server.address().port}`));
