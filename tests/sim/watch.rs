//! Who watches the reactor: what it tells of its steps must be one story for each fetch and for
//! each connection, whatever the network does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use url::Url;
use whippet::{
    Because, Circuit, FetchId, Head, Kind, Phase, Settings, Step, Trace, TraceEvent, TracedSocket,
};

use super::ways;
use super::world::{Origin, World};

pub(crate) struct Watch {
    world: Rc<RefCell<World>>,
    /// By what was told last: the attempt, and whether it has a head.
    fetches: BTreeMap<FetchId, Told>,
    sockets: BTreeMap<u64, (TracedSocket, Kept)>,
    /// Connections that have changed their protocol.
    switched: BTreeSet<u64>,
    /// The least number that the next connection may have.
    dialled: u64,
    ended: BTreeSet<FetchId>,
    /// Attempts, those among them that sent a request a second time.
    begun: u64,
    /// By origin: what has gone wrong with it since it answered well.
    failures: BTreeMap<(String, u16), u32>,
    /// How much of that it takes for an origin to be left alone. Not looked at where requests are
    /// sent twice: what becomes of the second exchange is not told.
    failures_least: Option<u32>,
    broken: Option<String>,
}

#[derive(Default)]
struct Told {
    attempt: u32,
    /// The number of its request.
    request: u64,
    has_head: bool,
    /// Host and port.
    origin: (String, u16),
    /// An attempt has begun, and its request was not sent.
    is_on_the_way: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    No,
    Yes,
}

impl Watch {
    pub(crate) fn new(world: Rc<RefCell<World>>, settings: &Settings) -> Self {
        let circuit = settings.pace.circuit.filter(|_| settings.hedge.is_none());
        Self {
            world,
            failures: BTreeMap::new(),
            failures_least: circuit.map(Circuit::failures),
            fetches: BTreeMap::new(),
            sockets: BTreeMap::new(),
            switched: BTreeSet::new(),
            dialled: 0,
            ended: BTreeSet::new(),
            begun: 0,
            broken: None,
        }
    }

    /// The first law that was broken.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Attempts that were begun, second exchanges included.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// Fetches whose end was not told.
    pub(crate) fn pending(&self) -> usize {
        self.fetches.len()
    }

    fn fetch(&mut self, id: FetchId, event: &TraceEvent<'_>) -> Result<(), &'static str> {
        if let Step::Queued { url, .. } = event.step {
            let told = Told { origin: origin(url), request: request(url), ..Told::default() };
            let is_new = self.fetches.insert(id, told).is_none();
            return if is_new && !self.ended.contains(&id) { Ok(()) } else { Err("queued twice") };
        }
        let told = self.fetches.get_mut(&id).ok_or("a step of a fetch that is none")?;
        let failures = self.failures.entry(told.origin.clone()).or_default();
        match event.step {
            Step::Head { head, .. } if head.status().as_u16() >= 500 => *failures += 1,
            Step::Head { head, .. } if !head.status().is_informational() => *failures = 0,
            Step::Retried { because: Because::Failed(_) | Because::Stale(_), .. } => *failures += 1,
            Step::Ended { error: Some(error), .. } => {
                let is_refusal = (error.kind(), error.phase()) == (Kind::Connect, Phase::Queue);
                if is_refusal && self.failures_least.is_some_and(|least| *failures < least) {
                    return Err("an origin is left alone without a row of failures");
                }
                *failures += u32::from(!is_refusal);
            }
            _ => {}
        }
        if let Step::Dialled { peer } | Step::Reused { peer } = event.step {
            ways::check_peer(told.request, peer, &mut self.world.borrow_mut().env);
        }
        match event.step {
            Step::Begun { .. } => {
                self.begun += 1;
                told.attempt = event.attempt;
                (told.has_head, told.is_on_the_way) = (false, true);
                if event.attempt == 0 {
                    return Err("an attempt without a number");
                }
            }
            Step::Ended { .. } | Step::Cancelled => {
                self.fetches.remove(&id);
                self.ended.insert(id);
            }
            _ if event.attempt != told.attempt => return Err("a step of another attempt"),
            Step::Sent { .. } | Step::Retried { .. } => told.is_on_the_way = false,
            Step::Head { head, .. } => {
                told.has_head = true;
                let origin = told.origin.clone();
                self.heed(&origin, &head, event);
            }
            Step::Body { .. } | Step::Redirected { .. } if !told.has_head => {
                return Err("a body or a redirect without a head");
            }
            Step::Redirected { to, .. } => {
                (told.origin, told.is_on_the_way) = (origin(to), false);
            }
            _ => {}
        }
        Ok(())
    }

    /// A head may ask for a pause of everybody but of those who are on the way already.
    fn heed(&self, origin: &(String, u16), head: &Head<'_>, event: &TraceEvent<'_>) {
        let seconds = head.header("X-Pause").map(|value| String::from_utf8_lossy(value).parse());
        let Some(Ok(seconds)) = seconds else { return };
        let fetches = self.fetches.values();
        let on_the_way = fetches.filter(|it| it.is_on_the_way && it.origin == *origin).count();
        let env = &mut self.world.borrow_mut().env;
        let is_its = |it: &Origin| origin.0 == it.host && origin.1 == it.port;
        if let Some(at) = env.origins.iter().position(is_its) {
            env.paces.heard(at, seconds, event.at.as_micros() as u64, on_the_way);
        }
    }

    fn socket(&mut self, now: TracedSocket, step: &Step<'_>) -> Result<(), &'static str> {
        if let Step::Dialled { .. } = step {
            // Those of name lookups over TCP are numbered too, and not told of.
            let is_next = now.number >= self.dialled;
            self.dialled = now.number + 1;
            self.sockets.insert(now.number, (now, Kept::No));
            return if is_next { Ok(()) } else { Err("connections are not numbered in order") };
        }
        let known = self.sockets.get_mut(&now.number);
        let (before, kept) = known.ok_or("a step of a connection that is none")?;
        if now.sent_bytes < before.sent_bytes || now.received_bytes < before.received_bytes {
            return Err("a connection has carried less than before");
        }
        *before = now;
        match step {
            Step::Head { head, .. } if head.status() == 101 => {
                self.switched.insert(now.number);
            }
            Step::Kept { .. } if self.switched.contains(&now.number) => {
                return Err("a connection is kept that has changed its protocol");
            }
            Step::Kept { .. } => *kept = Kept::Yes,
            Step::Reused { .. } if *kept == Kept::No => return Err("reused and not kept"),
            Step::Reused { .. } => *kept = Kept::No,
            Step::Closed { .. } => {
                self.sockets.remove(&now.number);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Its path begins with that.
fn request(url: &Url) -> u64 {
    let first = url.path_segments().and_then(|mut segments| segments.next());
    first.and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn origin(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default();
    (host.to_owned(), url.port_or_known_default().unwrap_or_default())
}

impl Trace for Watch {
    fn record(&mut self, event: &TraceEvent<'_>) {
        let of_fetch = event.fetch.map_or(Ok(()), |id| self.fetch(id, event));
        let of_socket = event.socket.map_or(Ok(()), |socket| self.socket(socket, &event.step));
        for law in [of_fetch, of_socket].into_iter().filter_map(Result::err) {
            self.broken.get_or_insert_with(|| format!("what is told: {law}: {event:?}"));
        }
    }
}
