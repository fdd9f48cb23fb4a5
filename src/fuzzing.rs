//! The private codecs as plain functions of bytes, for the fuzz targets in tests/fuzz.
//!
//! Compiled with `--cfg fuzzing` only, which cargo-fuzz sets. In go bytes; out come owned values
//! and errors as text, so that a target compares two runs with `==`. Nothing is decided here: each
//! function calls the codec as the reactor does.

#![allow(missing_docs, reason = "no part of the library's surface")]
#![allow(clippy::exhaustive_structs, clippy::exhaustive_enums, reason = "no part of it either")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use url::Url;

use crate::coding::{Coding, ContentCoding};
use crate::kit::moment::Moment;
use crate::origin::Origin;
use crate::policy::{auth, redirect, retry};
use crate::request::Request;
use crate::response::{Field, Span};
use crate::userinfo::Userinfo;
use crate::wire::coding;
use crate::wire::dns::config::{Config, Hosts};
use crate::wire::dns::lookup::{self, Transport};
use crate::wire::dns::message::{self, Answer, Extension, Kind};
use crate::wire::dns::{self, DnsError};
use crate::wire::http1::body::{self, BodyReader};
use crate::wire::http1::chunked::Dechunker;
use crate::wire::http1::{head, heads, scan};

pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A response head that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    inner: head::Head,
    pub reason: Vec<u8>,
    pub fields: Fields,
    pub location: Option<Vec<u8>>,
    pub retry_after: Option<Vec<u8>>,
}

/// `None`: it is not whole.
pub fn head(bytes: &[u8], bytes_max: usize) -> Result<Option<Head>, String> {
    let mut fields = Vec::new();
    let parsed = head::parse(bytes, bytes_max, &mut fields).map_err(named)?;
    Ok(parsed.map(|inner| Head::new(inner, bytes, &fields)))
}

/// Heads that come one after another.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "what it keeps says nothing")]
pub struct Heads(heads::Heads);

impl Heads {
    pub fn parse(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<Head>, String> {
        let parsed = self.0.parse(bytes, bytes_max).map_err(named)?;
        Ok(parsed.map(|inner| Head::new(inner, bytes, self.0.fields())))
    }
}

impl Head {
    fn new(inner: head::Head, bytes: &[u8], fields: &[Field]) -> Self {
        let mut shown = bytes.get(..inner.length).unwrap_or(bytes).to_vec();
        if inner.is_folded {
            head::unfold(&mut shown, fields);
        }
        let owned = |span: Span| span.of(&shown).to_vec();
        Self {
            inner,
            reason: owned(inner.reason),
            fields: fields_of(&shown, fields),
            location: inner.hints.location.map(owned),
            retry_after: inner.hints.retry_after.map(owned),
        }
    }

    pub fn length(&self) -> usize {
        self.inner.length
    }

    pub fn status(&self) -> u16 {
        self.inner.status
    }

    pub fn is_interim(&self) -> bool {
        self.inner.is_interim()
    }

    pub fn body(&self, method: &Method) -> Result<Body, String> {
        body::framing(method, &self.inner).map(Body).map_err(named)
    }
}

/// The search for a head's end.
#[derive(Clone, Copy, Default, Debug)]
pub struct Scan(scan::Scan);

impl Scan {
    pub fn find(&mut self, bytes: &[u8]) -> bool {
        self.0.find(bytes)
    }
}

/// A body while it is read.
#[derive(Debug)]
pub struct Body(BodyReader);

/// `take` bytes of data behind `skip` bytes of framing.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub skip: usize,
    pub take: usize,
    pub done: bool,
}

impl Body {
    pub fn chunked() -> Self {
        Self(BodyReader::Chunked(Dechunker::default()))
    }

    pub fn read(&mut self, bytes: &[u8]) -> Result<Piece, String> {
        let body::Piece { skip, take, done } = self.0.read(bytes).map_err(named)?;
        Ok(Piece { skip, take, done })
    }

    pub fn end_of_stream(&mut self) -> bool {
        self.0.end_of_stream().is_ok()
    }

    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    pub fn left(&self) -> Option<u64> {
        self.0.left()
    }

    pub fn trailer_bytes(&self) -> usize {
        self.0.trailers().len()
    }

    pub fn trailers(&self) -> Result<Fields, String> {
        let (mut section, mut fields) = (self.0.trailers().to_vec(), Vec::new());
        head::parse_trailers(&section, &mut fields).map_err(named)?;
        head::unfold(&mut section, &fields);
        Ok(fields_of(&section, &fields))
    }
}

/// What undoes codings, given in the order in which they were applied.
#[derive(Debug)]
pub struct Decoder(coding::Decoder);

/// What one call of it came to.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub used: usize,
    pub made: usize,
    pub has_more: bool,
}

impl Decoder {
    pub fn new(codings: &[Coding]) -> Option<Self> {
        let mut said = ContentCoding::default();
        codings.iter().for_each(|coding| said.note(coding.as_str().as_bytes()));
        coding::Decoder::new(said).map(Self)
    }

    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, String> {
        let progress = self.0.decode(input, output).map_err(named)?;
        let coding::Progress { used, made, has_more } = progress;
        Ok(Progress { used, made, has_more })
    }

    pub fn finish(&self) -> Result<(), String> {
        self.0.finish().map_err(named)
    }

    /// Bytes of memory that it holds, and those that it may come to hold beyond them.
    pub fn memory(&self) -> (usize, usize) {
        (self.0.held_bytes(), self.0.growth_bytes())
    }
}

/// A request as it goes on the wire.
pub fn request_bytes(request: &Request) -> Vec<u8> {
    let encoded = crate::reactor::encoded(request, true);
    let mut bytes = encoded.bytes.to_vec();
    if encoded.body_follows {
        bytes.extend_from_slice(request.parts.body.bytes());
    }
    bytes
}

/// The Host field's value.
pub fn authority(request: &Request) -> String {
    request.parts.route.origin.authority()
}

/// What is made of a redirect.
#[derive(Debug)]
pub enum Redirect {
    Answer,
    Refuse(redirect::Refusal),
    /// The request that follows, with what was left out of it.
    Follow {
        request: Box<Request>,
        keeps_body: bool,
        keeps_credentials: bool,
    },
}

/// Judges one response to `request`, and makes the request that follows it.
pub fn redirect(
    request: &Request,
    status: u16,
    location: Option<&[u8]>,
    hops_max: usize,
    allow_downgrade: bool,
    visited: &[(Method, Url)],
) -> Redirect {
    let hop = redirect::Hop {
        method: request.method(),
        url: request.url(),
        status,
        location,
        hops: visited.len(),
    };
    let rules = redirect::Rules { follow: true, hops_max, allow_downgrade };
    let next = match redirect::decide(&hop, &rules, visited.iter().map(|(m, u)| (m, u))) {
        redirect::Verdict::Answer => return Redirect::Answer,
        redirect::Verdict::Refuse(refusal) => return Redirect::Refuse(refusal),
        redirect::Verdict::Follow(next) => next,
    };
    let (keeps_body, keeps_credentials) = (next.keep_body, next.keep_credentials);
    match crate::reactor::redirected(request, next) {
        Ok(request) => Redirect::Follow { request: request.into(), keeps_body, keeps_credentials },
        Err(_) => Redirect::Answer,
    }
}

/// Digest sessions.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "what it keeps says nothing")]
pub struct Logins(auth::Sessions);

/// One request's part in them.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "what it keeps says nothing")]
pub struct Dialogue(auth::Dialogue);

impl Dialogue {
    /// Whether what was sent last answered a challenge.
    pub fn shows_login(&self) -> bool {
        self.0.shows_login()
    }
}

impl Logins {
    /// Whether a 401 with this WWW-Authenticate field is answered.
    pub fn judge(&mut self, field: &[u8], dialogue: &mut Dialogue) -> bool {
        let fields = std::iter::once(field);
        self.0.judge(fields, &mut dialogue.0, |_| true) == auth::Verdict::Again
    }

    pub fn note_info(&mut self, url: &str, user: &str, password: &str, field: &[u8]) {
        if let Some((origin, login)) = whose(url, user, password) {
            self.0.note_info(&origin, &login, field);
        }
    }

    pub fn authorization(
        &mut self,
        url: &str,
        user: &str,
        password: &str,
        dialogue: &mut Dialogue,
        target: &str,
    ) -> Option<Vec<u8>> {
        let (origin, login) = whose(url, user, password)?;
        self.0.authorization(&origin, &login, &mut dialogue.0, "GET", target)
    }
}

fn whose(url: &str, user: &str, password: &str) -> Option<(Origin, Arc<Userinfo>)> {
    let origin = Origin::of(&Url::parse(url).ok()?)?;
    let login = Userinfo { user: user.as_bytes().into(), password: password.as_bytes().into() };
    Some((origin, Arc::new(login)))
}

pub fn retry_after(value: &[u8], wall: SystemTime) -> Option<Duration> {
    retry::parse_retry_after(value, wall)
}

/// The delay before the retry of a GET that was answered with 503; `None`: there is none.
pub fn retry_delay(
    value: &[u8],
    retries_done: u32,
    remaining: Option<Duration>,
    wall: SystemTime,
    jitter: u64,
) -> Option<Duration> {
    let attempt = retry::Attempt {
        idempotent: true,
        replayable: true,
        retries_done,
        retries_max: u32::MAX,
        remaining,
        retry_after: Some(value),
        outcome: retry::Outcome::Status(503),
    };
    let now = Moment::from_micros(0);
    match retry::decide(&attempt, &mut retry::Budget::new(), now, wall, jitter) {
        retry::Verdict::Final => None,
        retry::Verdict::After(delay) => Some(delay),
    }
}

pub fn is_askable(host: &str) -> bool {
    dns::is_askable(host)
}

pub fn dns_query(id: u16, name: &str, is_aaaa: bool, is_edns: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let extension = if is_edns { Extension::Edns } else { Extension::Plain };
    message::query(&mut out, id, name, kind(is_aaaa), extension).then_some(out)
}

/// What a server said: addresses and their time to live in seconds, or a word. `Err`: the message
/// is no answer to the question.
pub fn dns_answer(
    bytes: &[u8],
    id: u16,
    name: &str,
    is_aaaa: bool,
) -> Result<(Vec<IpAddr>, u32, String), String> {
    let answer = message::parse(bytes, id, name, kind(is_aaaa)).map_err(named)?;
    Ok(match answer {
        Answer::Addresses { addresses, ttl } => (addresses, ttl, "addresses".to_owned()),
        Answer::NameError { ttl } => (Vec::new(), ttl, "no name".to_owned()),
        Answer::NoData { ttl } => (Vec::new(), ttl, "no data".to_owned()),
        Answer::Truncated => (Vec::new(), 1, "truncated".to_owned()),
        Answer::Failed(fault) => (Vec::new(), 1, format!("failed: {fault:?}")),
    })
}

/// Messages out of a TCP stream.
#[derive(Default, Debug)]
pub struct Frames(lookup::Frames);

impl Frames {
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.receive(bytes);
        std::iter::from_fn(|| self.0.next_message()).collect()
    }
}

/// resolv.conf and nsswitch.conf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolverConfig(Arc<Config>);

impl ResolverConfig {
    pub fn parse(resolv_conf: Option<&[u8]>, nsswitch: Option<&[u8]>) -> Self {
        Self(Arc::new(Config::parse(resolv_conf, nsswitch)))
    }

    pub fn servers(&self) -> &[SocketAddr] {
        &self.0.servers
    }

    pub fn search(&self) -> &[Box<str>] {
        &self.0.search
    }

    pub fn ndots(&self) -> u32 {
        self.0.ndots
    }

    pub fn timeout(&self) -> Duration {
        self.0.timeout
    }

    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    pub fn candidates(&self, host: &str) -> Vec<Box<str>> {
        self.0.candidates(host)
    }

    pub fn needs_system(&self, host: &str) -> bool {
        self.0.needs_system(host).is_some()
    }
}

/// The addresses of `host` in a hosts file, and those it has as a name of this machine.
pub fn hosts(bytes: &[u8], host: &str) -> (Option<Vec<IpAddr>>, Option<Vec<IpAddr>>) {
    let hosts = Hosts::parse(bytes);
    (hosts.get(host), hosts.loopback(host))
}

/// One lookup. Times are microseconds.
#[derive(Debug)]
pub struct Lookup(lookup::Lookup);

/// A query to send: is it for AAAA, where to, over TCP.
pub type Transmit = (bool, SocketAddr, bool);

impl Lookup {
    pub fn new(config: &ResolverConfig, host: &str, draw: u16) -> Self {
        Self(lookup::Lookup::new(&config.0, host, draw))
    }

    pub fn next_transmit(&self) -> Option<Transmit> {
        let transmit = self.0.next_transmit()?;
        let is_tcp = transmit.transport == Transport::Tcp;
        Some((transmit.kind == Kind::Aaaa, transmit.server, is_tcp))
    }

    pub fn send(&mut self, is_aaaa: bool, id: u16, now: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.send(kind(is_aaaa), id, Moment::from_micros(now), &mut out);
        out
    }

    pub fn receive(&mut self, is_aaaa: bool, bytes: &[u8], now: u64) -> bool {
        self.0.receive(kind(is_aaaa), bytes, Moment::from_micros(now))
    }

    pub fn receive_failure(&mut self, is_aaaa: bool, now: u64) {
        self.0.receive_failure(kind(is_aaaa), "refused".to_owned(), Moment::from_micros(now));
    }

    pub fn on_time(&mut self, now: u64) {
        self.0.on_time(Moment::from_micros(now));
    }

    pub fn next_deadline(&self) -> Option<u64> {
        Some(self.0.next_deadline()).filter(|at| !at.is_never()).map(Moment::micros)
    }

    pub fn is_waiting(&self, is_aaaa: bool) -> bool {
        self.0.is_waiting(kind(is_aaaa))
    }

    pub fn verdict(&self) -> Option<(Result<Vec<IpAddr>, DnsError>, Duration)> {
        self.0.verdict().map(|verdict| (verdict.result.clone(), verdict.ttl))
    }
}

#[cfg(feature = "tls")]
pub use self::tls::{Opened, Tls};

#[cfg(feature = "tls")]
mod tls {
    use crate::trust::TlsSettings;
    use crate::wire::tls::{Config, KEPT_BYTES_MAX, Session};

    /// A client's session.
    #[allow(missing_debug_implementations, reason = "rustls's connection has none")]
    pub struct Tls(Session);

    /// What came of some ciphertext.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Opened {
        pub consumed: usize,
        pub plain: usize,
        pub handshake_done_now: bool,
        pub peer_closed: bool,
        pub result: Result<(), String>,
    }

    impl Tls {
        pub const KEPT_BYTES_MAX: usize = KEPT_BYTES_MAX;

        pub fn new(settings: &TlsSettings, host: &str) -> Option<Self> {
            let config = Config::new(settings).ok()?;
            Session::new(&config, host).ok().map(Self)
        }

        pub fn start(&mut self, out: &mut Vec<u8>) {
            self.0.start(out);
        }

        pub fn open(&mut self, wire: &mut [u8], out: &mut Vec<u8>) -> Opened {
            let opened = self.0.open(wire, out);
            Opened {
                consumed: opened.consumed,
                plain: opened.plain,
                handshake_done_now: opened.handshake_done_now,
                peer_closed: opened.peer_closed,
                result: opened.result.map_err(|error| error.to_string()),
            }
        }

        pub fn completes_record(&self, kept: &[u8], new: &[u8]) -> bool {
            self.0.completes_record(kept, new)
        }

        pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
            self.0.seal(plain, out).is_ok()
        }

        pub fn can_send(&self) -> bool {
            self.0.can_send()
        }

        pub fn close(&mut self, out: &mut Vec<u8>) {
            self.0.close(out);
        }
    }
}

fn kind(is_aaaa: bool) -> Kind {
    if is_aaaa { Kind::Aaaa } else { Kind::A }
}

fn fields_of(bytes: &[u8], fields: &[Field]) -> Fields {
    fields.iter().map(|f| (f.name.of(bytes).to_vec(), f.value.of(bytes).to_vec())).collect()
}

/// The name of an error's variant.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn named(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
