// Sends informational responses and trailers, says which trailers came, keeps idle connections for
// 5 s, and writes down each request with the connection that it came on. Asked for another
// protocol, it echoes. Expectations it meets, or refuses with the status that the URL says; with
// those it writes down how much of the body came before its word, and in all.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');

const log = fs.openSync(process.argv[2], 'a');
let sockets = 0;

function digest(request, done) {
  const hash = crypto.createHash('sha256');
  request.on('data', (piece) => hash.update(piece));
  request.on('end', () => done(hash.digest('hex')));
}

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
  '/sent': (response, _, request) => digest(request, (sum) => {
    const [names, rest] = [request.rawTrailers, request.headers];
    const pairs = names.flatMap((name, at) => (at % 2 ? [] : [[name, names[at + 1]]]));
    const line = { trailers: pairs, sum, framing: rest['transfer-encoding'] };
    fs.writeSync(log, `${JSON.stringify(line)}\n`);
    response.end(JSON.stringify(request.trailers));
  }),
  '/refuse': (response, _, request) => digest(request, (sum) => response.end(sum)),
  '/who': (response) => response.end(`${response.socket.number} ${response.socket.requests}`),
};

const server = http.createServer((request, response) => {
  const { socket } = request;
  socket.requests += 1;
  const line = { url: request.url, socket: socket.number, nth: socket.requests };
  fs.writeSync(log, `${JSON.stringify(line)}\n`);
  const [path, count] = request.url.split('?');
  answers[path](response, Number(count), request);
});

// Node's own answer to an expectation would be to go on at once.
server.on('checkContinue', (request, response) => {
  const { socket } = request;
  socket.requests += 1;
  const [path, status] = request.url.split('?');
  const line = { url: request.url, socket: socket.number, nth: socket.requests, expects: true };
  const [begun, before] = [Date.now(), socket.bytesRead];
  const write = () => {
    line.body = socket.bytesRead - before;
    fs.writeSync(log, `${JSON.stringify(line)}\n`);
  };
  // Long enough for a body that comes unasked to come.
  setTimeout(() => {
    line.waited = Date.now() - begun;
    line.unasked = socket.bytesRead - before;
    if (path === '/refuse') {
      socket.on('close', write);
      response.writeHead(Number(status)).end('not that');
      return;
    }
    if (path === '/go-on') {
      response.writeContinue();
    }
    digest(request, (sum) => {
      write();
      response.end(sum);
    });
  }, 50);
});
// After a 101, what is heard is said again, up to the end of either side.
server.on('upgrade', (request, socket, head) => {
  const { upgrade } = request.headers;
  const line = { url: request.url, socket: socket.number, protocol: upgrade };
  fs.writeSync(log, `${JSON.stringify(line)}\n`);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`);
  socket.write(head);
  socket.on('end', () => socket.end('good-bye'));
  socket.pipe(socket, { end: false });
});
server.on('connection', (socket) => {
  socket.number = sockets += 1;
  socket.requests = 0;
});
server.keepAliveTimeout = 5000;
server.listen(0, '127.0.0.1', () => console.log(`listening on port ${server.address().port}`));
