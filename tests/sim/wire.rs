//! One simulated TCP connection: the client's kernel buffers, the edges it is told of, and the
//! server's end.

use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::net::SocketAddr;

use rustls::ServerConnection;
use whippet::net::{Readiness, Token};

use super::dns::Frames;
use super::http::Parser;
use super::proxies::Talk;
use super::random::body_bytes;
use super::world::Env;

pub(crate) const READABLE: u8 = Readiness::READABLE;
pub(crate) const WRITABLE: u8 = Readiness::WRITABLE;
pub(crate) const READ_CLOSED: u8 = Readiness::READ_CLOSED;
pub(crate) const ERROR: u8 = Readiness::ERROR;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Connecting,
    Open,
    /// Refused, or broken by force.
    Broken(io::ErrorKind),
}

/// Who is at the other end.
pub(crate) enum Service {
    /// Takes everything and says nothing.
    Silent,
    Http(Box<Http>),
    /// A proxy that has not led anywhere yet.
    Talk(Talk),
    Dns(Frames),
}

/// A server's end of an HTTP connection.
pub(crate) struct Http {
    pub(crate) parser: Parser,
    pub(crate) tls: Option<Box<ServerConnection>>,
    /// An answer is on its way: no request may come before its end.
    pub(crate) is_answering: bool,
    /// Answers that were sent to their ends.
    pub(crate) finished: u64,
    /// The request whose rest is coming was answered already.
    pub(crate) was_early: bool,
    /// When the next request comes, the connection ends instead.
    pub(crate) ends_on_reuse: bool,
    /// When the next request is to be written, it speaks first.
    pub(crate) speaks_on_reuse: bool,
    /// The connection ends when so many more bytes have come.
    pub(crate) cuts_after: Option<u64>,
    /// This byte of what it is sent, over TLS, comes as another.
    pub(crate) garbles_at: Option<u64>,
    pub(crate) heard_bytes: u64,
    /// Something that nobody asked for is on its way.
    pub(crate) has_spoken: bool,
    /// It never sends close_notify.
    pub(crate) is_curt: bool,
    pub(crate) shakes: Option<Shake>,
    /// The proxy that requests come by, where they are handed to one.
    pub(crate) proxy: Option<usize>,
}

impl Http {
    /// One that behaves.
    pub(crate) fn new(tls: Option<Box<ServerConnection>>) -> Self {
        Self {
            parser: Parser::default(),
            tls,
            is_answering: false,
            finished: 0,
            was_early: false,
            ends_on_reuse: false,
            speaks_on_reuse: false,
            cuts_after: None,
            garbles_at: None,
            heard_bytes: 0,
            has_spoken: false,
            is_curt: false,
            shakes: None,
            proxy: None,
        }
    }
}

/// What goes wrong in a TLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shake {
    Silence,
    /// The server's first flight ends after so many bytes, and nothing follows.
    Stall(usize),
    /// An alert comes instead.
    Alert(u8),
    /// The server's first flight ends after so many bytes, by a FIN or by a reset.
    Cut(usize, bool),
    /// This byte of it is another.
    Corrupt(usize),
    /// It speaks no TLS.
    Plain,
}

/// What a server does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    /// Nobody asked for these.
    Poison(Vec<u8>),
    /// TLS records that were sealed before, so late.
    Sealed(u64, Vec<u8>),
    /// The keys of TLS change.
    Keys,
    /// A body without end, from this byte on.
    Endless {
        nonce: u64,
        at: u64,
        chunked: bool,
        piece: usize,
    },
    Wait(u64),
    Fin,
    Reset,
    /// A tunnel is there as soon as what was said before is read.
    TunnelOpen,
    /// The client's slot may be free from here on: the rest is only drained.
    EndOfHead,
    /// The next request may come. `frees`: and the slot was not free before.
    EndOfAnswer {
        frees: bool,
    },
}

pub(crate) struct Wire {
    pub(crate) token: Token,
    pub(crate) remote: SocketAddr,
    /// Whose server it is; none: a name server, or a proxy that has not led anywhere yet. Where
    /// requests are handed to one, that of the last request that has said whose it is.
    pub(crate) origin: Option<usize>,
    /// The proxy that it was dialled to.
    pub(crate) proxy: Option<usize>,
    /// How much is to be read before a request may begin.
    pub(crate) opens_at: u64,
    /// An HTTP proxy was told nothing yet: neither a request nor CONNECT.
    pub(crate) is_undecided: bool,
    /// A proxy is handed requests on it, each for whatever server it names.
    pub(crate) is_handed: bool,
    /// The server of the request before, where that is so.
    pub(crate) origin_before: Option<usize>,
    pub(crate) phase: Phase,

    // The client's kernel.
    pub(crate) received: VecDeque<u8>,
    pub(crate) fin: bool,
    /// The error that the next call is told.
    pub(crate) error: Option<io::ErrorKind>,
    pub(crate) unsent: VecDeque<u8>,
    pub(crate) arrived_bytes: u64,
    pub(crate) read_bytes: u64,

    // Edges.
    /// To be told by the next poll.
    pub(crate) edge: u8,
    /// The contract owes an edge when it is readable or writable again.
    pub(crate) owes_read: bool,
    pub(crate) owes_write: bool,
    pub(crate) close_told: bool,
    /// A poll has told of something that was not read yet.
    pub(crate) told_unread: bool,

    // What the client says, read as it is written. Not over TLS.
    pub(crate) watcher: Option<Parser>,
    pub(crate) begun: u64,
    /// Where in the stream the slots of begun requests are free again.
    pub(crate) ends: VecDeque<u64>,
    pub(crate) ended: u64,
    pub(crate) poison_at: Option<u64>,
    /// Which answer belongs to which request, the client cannot know any more: what nobody asked
    /// for has crossed a request on the way.
    pub(crate) is_hopeless: bool,
    /// The request written last, once its head is.
    pub(crate) writing: Option<u64>,

    // The server's end.
    pub(crate) service: Service,
    pub(crate) out: VecDeque<Step>,
    /// Of the step under way, as it goes over the wire.
    pub(crate) raw: VecDeque<u8>,
    pub(crate) pump_at: Option<u64>,
    pub(crate) take_at: Option<u64>,
    pub(crate) is_starved: bool,
    /// What the client sends from now on is answered with a reset.
    pub(crate) server_gone: bool,
}

impl Wire {
    pub(crate) fn new(
        token: Token,
        remote: SocketAddr,
        origin: Option<usize>,
        service: Service,
    ) -> Self {
        let is_plain = matches!(&service, Service::Http(http) if http.tls.is_none());
        Self {
            token,
            remote,
            origin,
            proxy: None,
            opens_at: 0,
            is_undecided: false,
            is_handed: false,
            origin_before: None,
            phase: Phase::Connecting,
            received: VecDeque::new(),
            fin: false,
            error: None,
            unsent: VecDeque::new(),
            arrived_bytes: 0,
            read_bytes: 0,
            edge: 0,
            owes_read: true,
            owes_write: false,
            close_told: false,
            told_unread: false,
            watcher: is_plain.then(Parser::default),
            begun: 0,
            ends: VecDeque::new(),
            ended: 0,
            poison_at: None,
            is_hopeless: false,
            writing: None,
            service,
            out: VecDeque::new(),
            raw: VecDeque::new(),
            pump_at: None,
            take_at: None,
            is_starved: false,
            server_gone: false,
        }
    }

    /// Bytes come to the server, damaged where they are meant to be. `true`: it is enough.
    pub(crate) fn hear_bytes(&mut self, bytes: &mut [u8]) -> bool {
        let Service::Http(http) = &mut self.service else { return false };
        let count = bytes.len() as u64;
        let garbled = http.garbles_at.and_then(|at| at.checked_sub(http.heard_bytes));
        if let Some(byte) = garbled.and_then(|at| bytes.get_mut(at as usize)) {
            *byte ^= 0x20;
        }
        http.heard_bytes += count;
        match &mut http.cuts_after {
            Some(left) if *left <= count => true,
            Some(left) => {
                *left -= count;
                false
            }
            None => false,
        }
    }

    /// Whether what it heard was damaged.
    pub(crate) fn is_garbled(&self) -> bool {
        let Service::Http(http) = &self.service else { return false };
        http.garbles_at.is_some_and(|at| at < http.heard_bytes)
    }

    /// Whether a request is on it whose answer was not read to its end. Not known over TLS.
    pub(crate) fn is_busy(&self) -> bool {
        self.begun > self.ended && !self.is_hopeless
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.phase, Phase::Broken(_))
    }

    /// All that holds now.
    pub(crate) fn state(&self, send_bytes: usize) -> u8 {
        let mut bits = 0;
        if !self.received.is_empty() || self.fin || self.is_broken() {
            bits |= READABLE;
        }
        if self.phase != Phase::Connecting && self.unsent.len() < send_bytes || self.is_broken() {
            bits |= WRITABLE;
        }
        if self.fin || self.is_broken() {
            bits |= READ_CLOSED;
        }
        if self.is_broken() {
            bits |= ERROR;
        }
        bits
    }

    /// Something can be read that could not be before.
    pub(crate) fn arrived(&mut self, env: &Env) {
        if env.plan.eager_edges || self.owes_read {
            self.edge |= READABLE;
            if self.fin {
                self.edge |= READ_CLOSED;
            }
        }
    }

    pub(crate) fn breaks(&mut self, kind: io::ErrorKind, purges: bool) {
        self.phase = Phase::Broken(kind);
        self.error = Some(kind);
        self.edge |= READABLE | WRITABLE | READ_CLOSED | ERROR;
        self.out.clear();
        self.raw.clear();
        self.unsent.clear();
        if purges {
            self.received.clear();
        }
    }

    /// The poll tells of this wire: what it says.
    pub(crate) fn report(&mut self, env: &Env) -> u8 {
        let mut bits = std::mem::take(&mut self.edge);
        if env.plan.whole_masks {
            bits |= self.state(env.plan.send_bytes);
        }
        self.note_report(bits);
        bits
    }

    pub(crate) fn note_report(&mut self, bits: u8) {
        let has_something = !self.received.is_empty() || self.fin || self.is_broken();
        if bits & READABLE != 0 && has_something {
            self.owes_read = false;
            self.told_unread = true;
        }
        if bits & READ_CLOSED != 0 {
            self.close_told = true;
        }
    }

    /// The client has read: notes ends that it passed.
    pub(crate) fn note_read(&mut self, count: usize) {
        self.read_bytes += count as u64;
        while self.ends.front().is_some_and(|end| *end <= self.read_bytes) {
            self.ends.pop_front();
            self.ended += 1;
        }
    }

    /// Begins the next step: fills `raw`, or does what it says. `Some`: nothing more until then.
    pub(crate) fn begin(&mut self, step: Step, env: &mut Env) -> Option<u64> {
        match step {
            Step::Bytes(bytes) => self.seal(&bytes, env),
            Step::Poison(bytes) => {
                // An empty line before a status line is harmless, and is skipped.
                if bytes != b"\r\n" {
                    self.note_poison(env);
                }
                self.seal(&bytes, env);
            }
            Step::Endless { nonce, at, chunked, piece } => {
                let body = body_bytes(nonce, at, piece);
                let at = at + piece as u64;
                if chunked {
                    let mut chunk = format!("{piece:x}\r\n").into_bytes();
                    chunk.extend_from_slice(&body);
                    chunk.extend_from_slice(b"\r\n");
                    self.seal(&chunk, env);
                } else {
                    self.seal(&body, env);
                }
                self.out.push_front(Step::Endless { nonce, at, chunked, piece });
                // So that time passes, whatever the wires.
                self.out.push_front(Step::Wait(env.random.range(20_000, 200_000)));
            }
            Step::Sealed(0, records) => self.raw.extend(records),
            Step::Sealed(delay, records) => {
                self.out.push_front(Step::Sealed(0, records));
                return Some(delay);
            }
            Step::Keys => {
                if let Service::Http(http) = &mut self.service
                    && let Some(tls) = &mut http.tls
                {
                    // TLS 1.2 has no such thing.
                    let _ = tls.refresh_traffic_keys();
                    let mut sealed = Vec::new();
                    while tls.wants_write() {
                        let _ = tls.write_tls(&mut sealed);
                    }
                    self.raw.extend(sealed);
                }
            }
            Step::Wait(delay) => return Some(delay),
            Step::Fin => self.end(env),
            Step::Reset => self.breaks(io::ErrorKind::ConnectionReset, env.plan.reset_purges),
            Step::TunnelOpen => self.opens_at = self.arrived_bytes,
            Step::EndOfHead => self.pass_end(),
            Step::EndOfAnswer { frees } => {
                if let Service::Http(http) = &mut self.service {
                    http.is_answering = false;
                    http.finished += 1;
                }
                if frees {
                    self.pass_end();
                }
            }
        }
        None
    }

    fn note_poison(&mut self, env: &mut Env) {
        let Service::Http(http) = &self.service else { return };
        if http.tls.is_some() || self.begun > http.finished {
            self.is_hopeless = true;
            env.ledger.has_crossed = true;
            match self.writing {
                Some(id) => env.ledger.allow_poison(id),
                // Each answer may come to the next request, until the connection ends.
                None if http.tls.is_some() => env.ledger.loose_poison += env.plan.requests,
                None => env.ledger.loose_poison += 1,
            }
        } else {
            if self.begun == 0 {
                // It may be taken for an answer before a byte was asked.
                env.ledger.loose_poison += 1;
            }
            self.poison_at.get_or_insert(self.arrived_bytes);
        }
    }

    fn pass_end(&mut self) {
        self.ends.push_back(self.arrived_bytes);
        self.note_read(0);
    }

    /// Puts plaintext on the wire, in records of any size where it is TLS.
    fn seal(&mut self, bytes: &[u8], env: &mut Env) {
        let Service::Http(http) = &mut self.service else { return self.raw.extend(bytes) };
        let Some(tls) = &mut http.tls else { return self.raw.extend(bytes) };
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = 1 + env.random.magnitude(rest.len() as u64 - 1) as usize;
            let (piece, more) = rest.split_at(length.max(rest.len() / 64).min(rest.len()));
            rest = more;
            // Into memory: neither fails.
            let _ = tls.writer().write_all(piece);
            let mut sealed = Vec::new();
            let _ = tls.write_tls(&mut sealed);
            self.raw.extend(sealed);
        }
    }

    /// The server's FIN, after a close_notify where it is polite.
    fn end(&mut self, env: &mut Env) {
        if let Service::Http(http) = &mut self.service
            && let Some(tls) = &mut http.tls
            && !http.is_curt
        {
            http.is_curt = true;
            tls.send_close_notify();
            let mut sealed = Vec::new();
            while tls.wants_write() {
                let _ = tls.write_tls(&mut sealed);
            }
            self.raw.extend(sealed);
            return self.out.push_front(Step::Fin);
        }
        // An answer that is whole stays so, where its end was only to be noted.
        while let Some(Step::EndOfHead | Step::EndOfAnswer { .. }) = self.out.front()
            && let Some(noted) = self.out.pop_front()
        {
            self.begin(noted, env);
        }
        self.fin = true;
        self.out.clear();
        self.arrived(env);
        if env.random.chance(500) {
            self.server_gone = true;
        }
    }
}
