//! The floor: what the kernel and TLS themselves cost. It writes canned requests, counts bytes
//! until the response, whose length it knows, is whole, and knows nothing else of HTTP.
//!
//! `floor CLIENT url=… requests=N at_once=N…`, where CLIENT is
//! - `requests`: each connection's next request when its response is whole; with `parse`, each
//!   response's head goes through httparse; with `close`, each request has its own connection;
//! - `download`: one response, `body` bytes long, of which nothing is kept; with `save`, into that
//!   file.
//!
//! A response's head is as long as our own origin's, or `head` bytes.
//!
//! TLS is rustls's unbuffered connection: records are decrypted where they arrived.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use whippet_bench::meter::{Counting, Meter, Tally};
use whippet_bench::plan::Plan;
use whippet_bench::{Failure, canned, tls};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Failure> {
    let plan = Plan::from_args()?;
    Floor::new(&plan)?.run(&plan)
}

struct Floor {
    poll: Poll,
    address: SocketAddr,
    config: Option<Arc<ClientConfig>>,
    request: Vec<u8>,
    sink: Sink,
    response_bytes: u64,
    is_closing: bool,
    buffer: Box<[u8]>,
    sealed: Vec<u8>,
}

/// Where responses go.
struct Sink {
    head_bytes: u64,
    is_parsing: bool,
    file: Option<std::fs::File>,
}

struct Connection {
    socket: TcpStream,
    tls: Option<Box<UnbufferedClientConnection>>,
    /// The part of a record that has arrived.
    kept: Vec<u8>,
    is_open: bool,
    received: u64,
    began: Option<Instant>,
}

impl Floor {
    fn new(plan: &Plan) -> Result<Self, Failure> {
        let body_bytes = plan.number("body", 1_024)?;
        let is_closing = plan.is_set("close");
        let canned_bytes = canned::head(body_bytes, is_closing, plan.get("coding")).len() as u64;
        let head_bytes = plan.number("head", canned_bytes)?;
        let config = match plan.is_tls() {
            true => {
                let mut config = tls::client(&plan.authority_file()?)?;
                if !plan.is_set("resume") {
                    config.resumption = Resumption::disabled();
                }
                Some(Arc::new(config))
            }
            false => None,
        };
        let is_bulk = plan.client == "download";
        let buffer_bytes = match (is_bulk, plan.is_tls()) {
            (true, true) => TLS_BULK_READ_BYTES,
            _ => READ_BYTES,
        };
        Ok(Self {
            poll: Poll::new()?,
            address: plan.address()?,
            config,
            request: canned::request(plan.authority()?),
            sink: Sink {
                head_bytes,
                is_parsing: plan.is_set("parse"),
                file: plan.get("save").map(std::fs::File::create).transpose()?,
            },
            response_bytes: head_bytes + body_bytes,
            is_closing,
            buffer: vec![0; buffer_bytes].into(),
            sealed: vec![0; 4_096],
        })
    }

    fn run(mut self, plan: &Plan) -> Result<(), Failure> {
        let requests = plan.requests()?;
        let mut meter = Meter::start(plan)?;
        let mut tally = Tally::default();
        let mut connections = Vec::new();
        while connections.len() < usize::try_from(plan.at_once()?.min(requests))? {
            connections.push(Some(self.connect(connections.len(), meter.now())?));
        }
        let mut begun = connections.len() as u64;
        let mut events = Events::with_capacity(1_024);
        while tally.done < requests {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let Token(at) = event.token();
                let Some(connection) = &mut connections[at] else { continue };
                if !connection.is_open && event.is_writable() && connection.received == 0 {
                    self.open(connection)?;
                }
                if !event.is_readable() || !self.receive(connection)? {
                    continue;
                }
                tally.add(self.response_bytes - self.sink.head_bytes);
                meter.note(connection.began);
                let is_last = begun == requests;
                if is_last || self.is_closing {
                    connections[at] = None;
                }
                if is_last {
                    continue;
                }
                begun += 1;
                if self.is_closing {
                    connections[at] = Some(self.connect(at, meter.now())?);
                } else if let Some(connection) = &mut connections[at] {
                    connection.received = 0;
                    connection.began = meter.now();
                    self.send(connection)?;
                }
            }
        }
        meter.finish(tally)
    }

    fn connect(&mut self, at: usize, began: Option<Instant>) -> Result<Connection, Failure> {
        let mut socket = TcpStream::connect(self.address)?;
        self.poll.registry().register(
            &mut socket,
            Token(at),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let tls = match &self.config {
            Some(config) => {
                socket.set_nodelay(true)?;
                Some(Box::new(UnbufferedClientConnection::new(Arc::clone(config), name)?))
            }
            None => None,
        };
        let kept = Vec::new();
        Ok(Connection { socket, tls, kept, is_open: false, received: 0, began })
    }

    /// The socket is connected: the request, or what comes before it.
    fn open(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        if connection.tls.is_some() {
            self.open_records(connection, 0)?;
            return Ok(());
        }
        connection.is_open = true;
        self.send(connection)
    }

    fn send(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let Some(tls) = &mut connection.tls else {
            return whole(&mut connection.socket, &self.request);
        };
        let ConnectionState::WriteTraffic(mut traffic) = tls.process_tls_records(&mut []).state?
        else {
            return Err("nothing can be sent now".into());
        };
        let bytes = match traffic.encrypt(&self.request, &mut self.sealed) {
            Ok(bytes) => bytes,
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                self.sealed.resize(required_size, 0);
                traffic.encrypt(&self.request, &mut self.sealed)?
            }
            Err(error) => return Err(error.into()),
        };
        whole(&mut connection.socket, &self.sealed[..bytes])
    }

    /// Reads until the socket is empty; whether the response is whole.
    fn receive(&mut self, connection: &mut Connection) -> Result<bool, Failure> {
        loop {
            let kept = connection.kept.len();
            self.buffer[..kept].copy_from_slice(&connection.kept);
            connection.kept.clear();
            let bytes = match connection.socket.read(&mut self.buffer[kept..]) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.kept.extend_from_slice(&self.buffer[..kept]);
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            };
            let is_drained = bytes < self.buffer.len() - kept;
            if connection.tls.is_some() {
                self.open_records(connection, kept + bytes)?;
            } else {
                self.sink.take(&mut connection.received, &self.buffer[..bytes])?;
            }
            if connection.received == self.response_bytes {
                return Ok(true);
            }
            if bytes == 0 {
                return Err("the connection was closed".into());
            }
            if is_drained {
                return Ok(false);
            }
        }
    }

    /// Whatever `buffer[..arrived]` makes rustls do.
    fn open_records(&mut self, connection: &mut Connection, arrived: usize) -> Result<(), Failure> {
        let Some(mut tls) = connection.tls.take() else { return Ok(()) };
        let (mut at, mut out) = (0, 0);
        loop {
            let status = tls.process_tls_records(&mut self.buffer[at..arrived]);
            at += status.discard;
            let mut is_over = false;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        at += record.discard;
                        self.sink.take(&mut connection.received, record.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(mut chunk) => {
                    out += match chunk.encode(&mut self.sealed[out..]) {
                        Ok(bytes) => bytes,
                        Err(EncodeError::InsufficientSize(InsufficientSizeError {
                            required_size,
                        })) => {
                            self.sealed.resize(out + required_size, 0);
                            chunk.encode(&mut self.sealed[out..])?
                        }
                        Err(error) => return Err(error.into()),
                    };
                }
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    // The request goes with what ends the handshake.
                    if !connection.is_open {
                        connection.is_open = true;
                        self.sealed.resize(self.sealed.len().max(out + 4_096), 0);
                        out += traffic.encrypt(&self.request, &mut self.sealed[out..])?;
                    }
                    is_over = true;
                }
                _ => is_over = true,
            }
            if is_over {
                break;
            }
        }
        if out > 0 {
            whole(&mut connection.socket, &self.sealed[..out])?;
        }
        connection.kept.extend_from_slice(&self.buffer[at..arrived]);
        connection.tls = Some(tls);
        Ok(())
    }
}

impl Sink {
    /// Some more of the response of which `received` bytes came before.
    fn take(&mut self, received: &mut u64, plain: &[u8]) -> io::Result<()> {
        if self.is_parsing && *received == 0 {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut fields);
            head.parse(plain).map_err(io::Error::other)?;
        }
        if let Some(file) = &mut self.file {
            let of_head = self.head_bytes.saturating_sub(*received);
            let of_head = usize::try_from(of_head).unwrap_or(usize::MAX).min(plain.len());
            file.write_all(&plain[of_head..])?;
        }
        *received += plain.len() as u64;
        Ok(())
    }
}

/// Requests are shorter than any socket's buffer.
fn whole(socket: &mut TcpStream, bytes: &[u8]) -> Result<(), Failure> {
    if socket.write(bytes)? < bytes.len() {
        return Err("the socket is full".into());
    }
    Ok(())
}

const READ_BYTES: usize = 64 << 10;
/// As large as pays: fewer reads, and records decrypted while they are in the cache.
const TLS_BULK_READ_BYTES: usize = 512 << 10;
