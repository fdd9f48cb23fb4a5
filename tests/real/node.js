// Sends informational responses and trailers, keeps idle connections for 5 s, and writes down each
// request with the connection that it came on.
'use strict';
const fs = require('fs');
const http = require('http');

const log = fs.openSync(process.argv[2], 'a');
let sockets = 0;

const answers = {
  '/hints': (response, count) => {
    for (let number = 0; number < count; number += 1) {
      response.writeEarlyHints({ link: `</${number}.css>; rel=preload; as=style` });
    }
    setImmediate(() => response.end(`after ${count} hints`));
  },
  '/mixed': (response, count) => {
    response.writeProcessing();
    response.writeEarlyHints({ link: ['</a>; rel=preload', '</b>; rel=preload'], 'x-of': 'hints' });
    response.writeProcessing();
    setTimeout(() => response.writeHead(203, { 'X-Of': 'answer' }).end(`${count}`), 20);
  },
  '/trailers': (response, count) => {
    response.writeHead(200, { Trailer: 'X-Pieces, X-Sum', 'Content-Type': 'text/plain' });
    let sum = 0;
    for (let number = 0; number < count; number += 1) {
      sum += number;
      response.write(`${number}\n`);
    }
    response.addTrailers([['X-Pieces', `${count}`], ['X-Sum', `${sum}`], ['X-Accent', 'caf\u00e9']]);
    response.end();
  },
  '/who': (response) => response.end(`${response.socket.number} ${response.socket.requests}`),
};

const server = http.createServer((request, response) => {
  const { socket } = request;
  socket.requests += 1;
  const line = { url: request.url, socket: socket.number, nth: socket.requests };
  fs.writeSync(log, `${JSON.stringify(line)}\n`);
  const [path, count] = request.url.split('?');
  answers[path](response, Number(count));
});
server.on('connection', (socket) => {
  socket.number = sockets += 1;
  socket.requests = 0;
});
server.keepAliveTimeout = 5000;
server.listen(0, '127.0.0.1', () => console.log(`listening on port ${server.address().port}`));
