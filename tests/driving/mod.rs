//! The loop around a reactor that the tests of names, dialling and TLS share, and a network that
//! is the system's except where a test says otherwise.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use whippet::net::{
    Net, OsDatagram, OsNet, OsStream, Readiness, ResolverFiles, SystemAnswer, Token,
};
use whippet::{
    Error, Event, FetchId, Limit, Reactor, Request, Response, Roots, Settings, Stats, TlsSettings,
};

use super::support::{DnsServer, Latch, ca_der};

/// How one fetch ended. A streamed response is put together as a collected one would be.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) tag: u64,
    pub(crate) stats: Stats,
    pub(crate) result: Result<Answer, Error>,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) url: String,
}

impl Ended {
    /// The answer; a failure fails the test.
    pub(crate) fn answer(&self) -> &Answer {
        match &self.result {
            Ok(answer) => answer,
            Err(error) => panic!("{}: {error:?}", self.tag),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.answer().body).unwrap()
    }

    /// The failure; an answer fails the test.
    pub(crate) fn error(&self) -> &Error {
        match &self.result {
            Ok(answer) => panic!("{}: {} {}", self.tag, answer.status, answer.url),
            Err(error) => error,
        }
    }
}

/// Settings whose limits end a test that hangs, without retries, and with the tests' authority
/// alone.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts.set(Limit::Total, Some(Duration::from_secs(20)));
    settings.timeouts.set(Limit::Idle, Some(Duration::from_secs(60)));
    settings.retries = 0;
    if cfg!(any(feature = "ring", feature = "aws-lc-rs")) {
        settings.tls = Arc::new(trusting());
    }
    settings
}

/// The same, asking these servers for names.
pub(crate) fn asking(servers: &[&DnsServer]) -> Settings {
    let mut settings = settings();
    settings.dns_servers = servers.iter().map(|server| server.address()).collect();
    settings
}

/// TLS settings that trust the tests' authority and nobody else.
pub(crate) fn trusting() -> TlsSettings {
    TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(ca_der().to_vec())
}

/// A request whose response is collected.
pub(crate) fn get(url: impl AsRef<str>) -> Request {
    Request::get(url).unwrap().collect(true)
}

/// One turn: waits, and takes all events.
pub(crate) fn turn<N: Net>(reactor: &mut Reactor<N>, timeout: Option<Duration>) -> Vec<Ended> {
    reactor.wait(timeout).unwrap();
    drain(reactor)
}

/// A turn that does not sleep: what was submitted begins.
pub(crate) fn begin<N: Net>(reactor: &mut Reactor<N>) -> Vec<Ended> {
    turn(reactor, Some(Duration::ZERO))
}

/// Takes all events there are.
pub(crate) fn drain<N: Net>(reactor: &mut Reactor<N>) -> Vec<Ended> {
    let mut ended = Vec::new();
    while let Some(event) = reactor.next_event() {
        match event {
            Event::Done { tag, stats, response, .. } => {
                let result = Ok(response.map(Answer::from).unwrap_or_default());
                ended.push(Ended { tag, stats, result });
            }
            Event::Failed { tag, stats, error, .. } => {
                ended.push(Ended { tag, stats, result: Err(error) });
            }
            _ => {}
        }
    }
    ended
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        let (status, url) = (response.status().as_u16(), response.url().to_string());
        Self { status, url, body: response.into_body() }
    }
}

/// Runs until every fetch has ended, in the order in which they end.
pub(crate) fn drive<N: Net>(reactor: &mut Reactor<N>) -> Vec<Ended> {
    let mut ended = Vec::new();
    while reactor.pending() > 0 {
        ended.extend(turn(reactor, None));
    }
    settle(reactor);
    ended
}

/// Runs one request to its end.
pub(crate) fn run<N: Net>(reactor: &mut Reactor<N>, request: Request) -> Ended {
    submit(reactor, request);
    drive(reactor).pop().unwrap()
}

/// Runs all of `requests` side by side; sorted by tag, which is their place.
pub(crate) fn run_all<N: Net>(
    reactor: &mut Reactor<N>,
    requests: impl IntoIterator<Item = Request>,
) -> Vec<Ended> {
    for (tag, request) in (0..).zip(requests) {
        submit(reactor, request.tag(tag));
    }
    let mut ended = drive(reactor);
    ended.sort_by_key(|ended| ended.tag);
    ended
}

pub(crate) fn submit<N: Net>(reactor: &mut Reactor<N>, request: Request) -> FetchId {
    reactor.submit(request).unwrap()
}

/// Runs until `expected`; nothing may end meanwhile.
pub(crate) fn run_until<N: Net>(
    reactor: &mut Reactor<N>,
    mut expected: impl FnMut(&Reactor<N>) -> bool,
) {
    for _ in 0..TURNS_MAX {
        if expected(reactor) {
            return;
        }
        let ended = turn(reactor, Some(POLL));
        assert!(ended.is_empty(), "{ended:?}");
    }
    panic!("did not come about: {reactor:?}");
}

/// Everything has ended: nothing is left but idle connections.
pub(crate) fn settle<N: Net>(reactor: &mut Reactor<N>) {
    run_until(reactor, |reactor| reactor.connections() == reactor.idle_connections());
    assert_eq!((reactor.pending(), reactor.in_flight(), reactor.waiting()), (0, 0, 0));
}

/// How long a wait for something lasts before it is looked at again.
const POLL: Duration = Duration::from_millis(20);
const TURNS_MAX: usize = 1_000;

/// What a [`World`] does in place of the system.
#[derive(Default)]
pub(crate) struct Whims {
    /// How far the clock is ahead.
    pub(crate) skipped: Duration,
    /// What the clock says for as long as it stands still.
    pub(crate) frozen: Option<Duration>,
    pub(crate) was_moved: bool,
    pub(crate) poll_fails: bool,
    /// Released when a poll would sleep.
    pub(crate) at_sleep: Option<Latch>,
    pub(crate) files: ResolverFiles,
    /// Asked of the system in place of any name.
    pub(crate) system_name: Option<String>,
    /// Names that the system was asked for.
    pub(crate) system_lookups: Vec<String>,
    /// Most bytes that one read gives and one write takes.
    pub(crate) read_bytes_max: Option<usize>,
    pub(crate) write_bytes_max: Option<usize>,
    /// Writes that would take more than this are cut to a tenth, and the socket then takes no more.
    pub(crate) jams_above: Option<usize>,
    /// What is ready still, of what was cut short.
    pub(crate) again: Vec<Readiness>,
    pub(crate) jammed: Vec<Token>,
    /// Calls that write to a stream.
    pub(crate) writes: usize,
    /// Addresses dialled.
    pub(crate) dialled: Vec<SocketAddr>,
    /// Where a connection leads in place of its address.
    pub(crate) detours: HashMap<SocketAddr, SocketAddr>,
    /// The generator fails.
    pub(crate) no_randomness: bool,
    /// Every draw of random bytes.
    pub(crate) drawn: Vec<Vec<u8>>,
}

/// The system's network, with whims.
pub(crate) struct World {
    net: OsNet,
    whims: Rc<RefCell<Whims>>,
}

/// A socket, and its name.
pub(crate) struct WorldStream(OsStream, Token);

/// The whims of a world, from outside.
#[derive(Clone, Default)]
pub(crate) struct Control(Rc<RefCell<Whims>>);

impl Control {
    pub(crate) fn new(whims: Whims) -> Self {
        Self(Rc::new(RefCell::new(whims)))
    }

    pub(crate) fn reactor(&self, settings: Settings) -> Reactor<World> {
        let net = OsNet::new(settings.events_per_wait_max).unwrap();
        Reactor::with_net(World { net, whims: Rc::clone(&self.0) }, settings).unwrap()
    }

    /// Moves the clock forward.
    pub(crate) fn skip(&self, time: Duration) {
        let mut whims = self.0.borrow_mut();
        whims.was_moved = true;
        match &mut whims.frozen {
            Some(frozen) => *frozen += time,
            None => whims.skipped += time,
        }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Whims) -> T) -> T {
        look(&mut self.0.borrow_mut())
    }
}

impl Net for World {
    type Stream = WorldStream;
    type Datagram = OsDatagram;

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<WorldStream> {
        let mut whims = self.whims.borrow_mut();
        whims.dialled.push(to);
        let there = whims.detours.get(&to).copied().unwrap_or(to);
        Ok(WorldStream(self.net.connect(there, token)?, token))
    }

    fn read(&mut self, stream: &mut WorldStream, into: &mut [u8]) -> io::Result<usize> {
        let mut whims = self.whims.borrow_mut();
        let most = whims.read_bytes_max.unwrap_or(into.len()).min(into.len());
        let count = self.net.read(&mut stream.0, &mut into[..most])?;
        if count == most {
            whims.again.push(Readiness { token: stream.1, bits: Readiness::READABLE });
        }
        Ok(count)
    }

    fn write(&mut self, stream: &mut WorldStream, bytes: &[u8]) -> io::Result<usize> {
        let mut whims = self.whims.borrow_mut();
        whims.writes += 1;
        if whims.jammed.contains(&stream.1) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if whims.jams_above.is_some_and(|above| bytes.len() > above) {
            whims.jammed.push(stream.1);
            return self.net.write(&mut stream.0, &bytes[..bytes.len() / 10]);
        }
        let most = whims.write_bytes_max.unwrap_or(bytes.len()).min(bytes.len());
        if most < bytes.len() {
            whims.again.push(Readiness { token: stream.1, bits: Readiness::WRITABLE });
        }
        self.net.write(&mut stream.0, &bytes[..most])
    }

    fn shutdown(&mut self, stream: &mut WorldStream) -> io::Result<()> {
        self.net.shutdown(&mut stream.0)
    }

    fn take_error(&mut self, stream: &mut WorldStream) -> io::Result<Option<io::Error>> {
        self.net.take_error(&mut stream.0)
    }

    fn close(&mut self, stream: WorldStream) {
        self.net.close(stream.0);
    }

    fn open_datagram(&mut self, to: SocketAddr, token: Token) -> io::Result<OsDatagram> {
        self.net.open_datagram(to, token)
    }

    fn send(&mut self, socket: &mut OsDatagram, datagram: &[u8]) -> io::Result<usize> {
        self.net.send(socket, datagram)
    }

    fn receive(&mut self, socket: &mut OsDatagram, into: &mut [u8]) -> io::Result<usize> {
        self.net.receive(socket, into)
    }

    fn close_datagram(&mut self, socket: OsDatagram) {
        self.net.close_datagram(socket);
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        ready: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        let mut whims = self.whims.borrow_mut();
        if whims.poll_fails {
            return Err(io::Error::other("no poll"));
        }
        // A sleep that was measured before the clock was moved is over.
        let is_over = std::mem::take(&mut whims.was_moved) || !whims.again.is_empty();
        let timeout = if is_over { Some(Duration::ZERO) } else { timeout };
        if timeout != Some(Duration::ZERO)
            && let Some(latch) = whims.at_sleep.take()
        {
            latch.release();
        }
        ready.append(&mut whims.again);
        drop(whims);
        // The world's clock is not this one's.
        let (inside, now) = (self.net.now(), self.now());
        let until = until.map(|until| inside + until.saturating_sub(now));
        self.net.wait(timeout, until, ready)
    }

    fn now(&mut self) -> Duration {
        let whims = self.whims.borrow();
        whims.frozen.unwrap_or_else(|| self.net.now() + whims.skipped)
    }

    fn epoch(&self) -> Instant {
        self.net.epoch()
    }

    fn wall(&mut self) -> SystemTime {
        self.net.wall()
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        if self.whims.borrow().no_randomness {
            return Err(io::Error::other("no entropy"));
        }
        self.net.random(into)?;
        self.whims.borrow_mut().drawn.push(into.to_vec());
        Ok(())
    }

    fn resolver_files(&mut self) -> ResolverFiles {
        self.whims.borrow().files.clone()
    }

    fn start_system_lookup(&mut self, host: &str, ticket: u64) -> io::Result<()> {
        let mut whims = self.whims.borrow_mut();
        whims.system_lookups.push(host.to_owned());
        let asked = whims.system_name.clone().unwrap_or_else(|| host.to_owned());
        self.net.start_system_lookup(&asked, ticket)
    }

    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        self.net.next_system_answer()
    }
}

/// Parses addresses.
pub(crate) fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
