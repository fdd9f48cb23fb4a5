//! One simulated TCP connection: the client's kernel buffers, the edges it is told of, and the
//! server's end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use whippet::SocketSettings;
use whippet::net::{Readiness, Token};

use super::asked::{Asked, Parser};
use super::dns::Frames;
use super::proxies::Talk;
use super::random::body_bytes;
use super::tls::Channel;
use super::upgrades::Switch;
use super::ways::At;
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
    pub(crate) tls: Option<Box<Channel>>,
    /// A front was told nothing yet: it may be TLS.
    pub(crate) is_untold_front: bool,
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
    /// Something that nobody asked for is on its way.
    pub(crate) has_spoken: bool,
    /// It is heard over TLS that ends without close_notify: what lasts until its end may be cut
    /// short.
    pub(crate) hides_end: bool,
    /// The proxy that requests come by, where they are handed to one.
    pub(crate) proxy: Option<usize>,
    /// It speaks another protocol from now on.
    pub(crate) switch: Option<Switch>,
}

impl Http {
    /// One that behaves.
    pub(crate) fn new(tls: Option<Box<Channel>>) -> Self {
        let hides_end = tls.as_ref().is_some_and(|tls| tls.is_curt);
        Self {
            parser: Parser::default(),
            tls,
            is_untold_front: false,
            is_answering: false,
            finished: 0,
            was_early: false,
            ends_on_reuse: false,
            speaks_on_reuse: false,
            cuts_after: None,
            has_spoken: false,
            hides_end,
            proxy: None,
            switch: None,
        }
    }
}

/// What a server does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    /// Nobody asked for these.
    Poison(Vec<u8>),
    /// Said in another protocol.
    Speech(Vec<u8>),
    /// As it is, so late: records of TLS with the server, or a proxy's word before them.
    Sealed(u64, Vec<u8>),
    /// Records of TLS with the proxy, so late.
    Outer(u64, Vec<u8>),
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
    /// It says nothing more, and perhaps takes nothing.
    Mute,
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
    /// None: a path.
    pub(crate) remote: Option<SocketAddr>,
    /// Where it ends; none: at a name server, or at a proxy that has not led anywhere yet.
    pub(crate) at: Option<At>,
    /// How it was made.
    pub(crate) sockets: SocketSettings,
    /// Whose server it is; none: a name server, or a proxy that has not led anywhere yet. Where
    /// requests are handed to one, that of the last request that has said whose it is.
    pub(crate) origin: Option<usize>,
    /// The proxy that it was dialled to.
    pub(crate) proxy: Option<usize>,
    /// TLS with that proxy, around all else.
    pub(crate) outer: Option<Box<Channel>>,
    /// How much is to be read before anything is said into the tunnel.
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
    /// It takes nothing from the client's kernel any more.
    pub(crate) is_deaf: bool,
    /// The client has said that it says nothing more.
    pub(crate) is_half_closed: bool,
}

impl Wire {
    pub(crate) fn new(
        token: Token,
        remote: Option<SocketAddr>,
        origin: Option<usize>,
        service: Service,
    ) -> Self {
        let is_plain = matches!(&service, Service::Http(http) if http.tls.is_none());
        Self {
            token,
            remote,
            at: None,
            sockets: SocketSettings::new(),
            origin,
            proxy: None,
            outer: None,
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
            is_deaf: false,
            is_half_closed: false,
        }
    }

    /// Whether requests on it name their servers, as all that is known here: those of a front.
    pub(crate) fn is_fronted(&self) -> bool {
        matches!(self.at, Some(At::Front(_) | At::Path(_)))
    }

    /// Whether a request says here for the first time whose it is: what is written over TLS is not
    /// read along.
    pub(crate) fn names_only_here(&self, asked: &Asked) -> bool {
        (asked.is_absolute && self.outer.is_some()) || (self.is_fronted() && self.watcher.is_none())
    }

    /// The version of TLS that is spoken with the server.
    pub(crate) fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        let Service::Http(http) = &self.service else { return None };
        http.tls.as_ref()?.version()
    }

    /// Whether TLS is spoken with the server.
    pub(crate) fn has_tls(&self) -> bool {
        matches!(&self.service, Service::Http(http) if http.tls.is_some())
    }

    /// So many bytes come to the server. `true`: it is enough.
    pub(crate) fn count_heard(&mut self, count: u64) -> bool {
        let Service::Http(http) = &mut self.service else { return false };
        match &mut http.cuts_after {
            Some(left) if *left <= count => true,
            Some(left) => {
                *left -= count;
                false
            }
            None => false,
        }
    }

    /// What a proxy finds in what comes to it over TLS.
    pub(crate) fn open_outer(&mut self, bytes: Vec<u8>, env: &mut Env) -> Vec<u8> {
        let Some(outer) = &mut self.outer else { return bytes };
        if outer.is_spoken_to_plainly(&bytes) {
            env.ledger.break_law("an https proxy is spoken to without TLS");
        }
        let heard = outer.receive(&bytes);
        env.has_garbled |= outer.is_garbled;
        if !heard.answer.is_empty() {
            let late = if heard.is_done_now { env.tickets_late() } else { 0 };
            self.out.push_back(Step::Outer(late, heard.answer));
        }
        if heard.plain.is_none() {
            env.ledger.excuse_origin(0);
            self.out.push_back(Step::Fin);
        }
        self.out.extend(heard.end);
        heard.plain.unwrap_or_default()
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
            Step::Speech(bytes) => {
                if let Some(nonce) = self.speech() {
                    env.ledger.speak(nonce, &bytes);
                }
                self.seal(&bytes, env);
            }
            Step::Mute => {
                self.out.clear();
                self.is_deaf = env.random.chance(500);
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
            Step::Sealed(0, records) => self.put(&records, env),
            Step::Sealed(delay, records) => {
                self.out.push_front(Step::Sealed(0, records));
                return Some(delay);
            }
            Step::Outer(0, records) => self.raw.extend(records),
            Step::Outer(delay, records) => {
                self.out.push_front(Step::Outer(0, records));
                return Some(delay);
            }
            Step::Keys => self.change_keys(env),
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
        let is_hidden = http.tls.is_some() || self.outer.is_some();
        if is_hidden || self.begun > http.finished {
            self.is_hopeless = true;
            env.ledger.has_crossed = true;
            match self.writing {
                Some(id) => env.ledger.allow_poison(id),
                // Each answer may come to the next request, until the connection ends.
                None if is_hidden => env.ledger.loose_poison += env.plan.requests,
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

    /// What names its other protocol, where it speaks one.
    fn speech(&self) -> Option<u64> {
        let Service::Http(http) = &self.service else { return None };
        http.switch.as_ref().map(|switch| switch.nonce)
    }

    fn pass_end(&mut self) {
        self.ends.push_back(self.arrived_bytes);
        self.note_read(0);
    }

    /// Puts plaintext of the server's on the wire.
    fn seal(&mut self, bytes: &[u8], env: &mut Env) {
        if let Service::Http(http) = &mut self.service
            && let Some(tls) = &mut http.tls
        {
            let sealed = tls.seal(bytes, &mut env.random);
            env.has_garbled |= tls.is_garbled;
            return self.put(&sealed, env);
        }
        self.put(bytes, env);
    }

    /// Puts on the wire what a proxy in between hands on as it is.
    fn put(&mut self, bytes: &[u8], env: &mut Env) {
        let Some(outer) = &mut self.outer else { return self.raw.extend(bytes) };
        self.raw.extend(outer.seal(bytes, &mut env.random));
        env.has_garbled |= outer.is_garbled;
    }

    /// Those of the server, or those of the proxy.
    fn change_keys(&mut self, env: &mut Env) {
        if let Some(outer) = &mut self.outer
            && env.random.chance(500)
        {
            return self.raw.extend(outer.change_keys());
        }
        if let Service::Http(http) = &mut self.service
            && let Some(tls) = &mut http.tls
        {
            let records = tls.change_keys();
            self.put(&records, env);
        }
    }

    /// The server's FIN, after a close_notify where it is polite, and one of the proxy's.
    fn end(&mut self, env: &mut Env) {
        if let Service::Http(http) = &self.service
            && let Some(switch) = &http.switch
            && !http.hides_end
        {
            env.ledger.end_speech(switch.nonce);
        }
        if let Service::Http(http) = &mut self.service
            && let Some(notice) = http.tls.as_mut().and_then(|tls| tls.close())
        {
            self.put(&notice, env);
            return self.out.push_front(Step::Fin);
        }
        if let Some(notice) = self.outer.as_mut().and_then(|outer| outer.close()) {
            self.raw.extend(notice);
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
        // One that behaves has ended another protocol only when it has heard the client's last
        // word, close_notify included: it is not gone before (RFC 9112 §9.6).
        let lingers = self.speech().is_some() && env.plan.scenario.is_calm();
        if env.random.chance(500) && !lingers {
            self.server_gone = true;
            if let Service::Http(http) = &self.service
                && let Some(switch) = &http.switch
            {
                // What it has said last may be lost by what it does not hear.
                env.ledger.excuse(switch.id);
            }
        }
    }
}
