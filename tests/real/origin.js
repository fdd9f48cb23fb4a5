// origin.js NAME PORT LOG [PAUSE_MS]: answers each request in pieces over some time, every other one
// with a length, and writes down the requests as they come.
'use strict';
const fs = require('fs');
const http = require('http');

const [name, port, path, pause] = process.argv.slice(2);
const log = fs.openSync(path, 'a');
const PIECES = 4;
const PAUSE_MS = Number(pause || 8);

const server = http.createServer((request, response) => {
  let sent = '';
  request.on('data', (piece) => { sent += piece; });
  request.on('end', () => {
    fs.writeSync(log, `${request.method} ${request.url} ${sent}\n`);
    const number = Number(request.url.split('?')[1]);
    const piece = `${number}:`.repeat(500);
    const headers = { 'X-Origin': name };
    if (number % 2) {
      headers['Content-Length'] = piece.length * PIECES;
    }
    let left = PIECES;
    const send = () => {
      if (left === PIECES) {
        response.writeHead(200, headers);
      }
      left -= 1;
      response.write(piece);
      if (left === 0) {
        response.end();
      } else {
        setTimeout(send, PAUSE_MS);
      }
    };
    setTimeout(send, PAUSE_MS);
  });
});
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));
