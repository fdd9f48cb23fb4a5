//! Who watches the reactor: what it tells of its steps must be one story for each fetch and for
//! each connection, whatever the network does.

use std::collections::{BTreeMap, BTreeSet};

use whippet::{FetchId, Step, Trace, TraceEvent, TracedSocket};

#[derive(Default)]
pub(crate) struct Watch {
    /// By what was told last: the attempt, and whether it has a head.
    fetches: BTreeMap<FetchId, Told>,
    sockets: BTreeMap<u64, (TracedSocket, Kept)>,
    /// The least number that the next connection may have.
    dialled: u64,
    ended: BTreeSet<FetchId>,
    /// Attempts, those among them that sent a request a second time.
    begun: u64,
    broken: Option<String>,
}

#[derive(Default)]
struct Told {
    attempt: u32,
    has_head: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    No,
    Yes,
}

impl Watch {
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
        if let Step::Queued { .. } = event.step {
            let is_new = self.fetches.insert(id, Told::default()).is_none();
            return if is_new && !self.ended.contains(&id) { Ok(()) } else { Err("queued twice") };
        }
        let told = self.fetches.get_mut(&id).ok_or("a step of a fetch that is none")?;
        match event.step {
            Step::Begun { .. } => {
                self.begun += 1;
                *told = Told { attempt: event.attempt, ..Told::default() };
                if event.attempt == 0 {
                    return Err("an attempt without a number");
                }
            }
            Step::Ended { .. } | Step::Cancelled => {
                self.fetches.remove(&id);
                self.ended.insert(id);
            }
            _ if event.attempt != told.attempt => return Err("a step of another attempt"),
            Step::Head { .. } => told.has_head = true,
            Step::Body { .. } | Step::Redirected { .. } if !told.has_head => {
                return Err("a body or a redirect without a head");
            }
            _ => {}
        }
        Ok(())
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

impl Trace for Watch {
    fn record(&mut self, event: &TraceEvent<'_>) {
        let of_fetch = event.fetch.map_or(Ok(()), |id| self.fetch(id, event));
        let of_socket = event.socket.map_or(Ok(()), |socket| self.socket(socket, &event.step));
        for law in [of_fetch, of_socket].into_iter().filter_map(Result::err) {
            self.broken.get_or_insert_with(|| format!("what is told: {law}: {event:?}"));
        }
    }
}
