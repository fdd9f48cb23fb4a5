//! Bodies that are sent piece by piece: how the program gives them, and how a server hears them.

use std::collections::BTreeMap;

use whippet::net::Net;
use whippet::{Body, BodyRefused, FetchId, Reactor};

use super::http;
use super::ledger::Ledger;
use super::random::{Random, body_bytes, mix};
use super::upgrades;

/// A body that the program pushes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushing {
    fetch: Option<FetchId>,
    /// Names its bytes.
    pub(crate) name: u64,
    pub(crate) length: u64,
    pub(crate) is_announced: bool,
    pub(crate) is_replayable: bool,
    at: u64,
    is_finished: bool,
    /// Its end is told.
    finishes: bool,
    /// When the next piece is given; none: when it is asked for.
    next_at: Option<u64>,
}

/// The bodies that the program pushes, by request.
#[derive(Debug)]
pub(crate) struct Pushes {
    jobs: BTreeMap<u64, Pushing>,
    random: Random,
}

/// Whether a request waits for the server's word on its body.
pub(crate) fn expects(id: u64, salt: u64) -> bool {
    Random::new(mix(salt ^ id ^ 0x65_78)).chance(200)
}

/// How the body of a request is given, chosen by its number alone. `true`: it can be sent once.
pub(crate) fn body(id: u64, salt: u64, length: u64) -> (Body, Option<Pushing>, bool) {
    let mut random = Random::new(mix(salt ^ id ^ 0x75_70));
    let is_announced = random.chance(500);
    let sized = |body: Body| if is_announced { body.with_length(length) } else { body };
    match random.below(5) {
        0 | 1 => (Body::from(body_bytes(http::upload(id), 0, length as usize)), None, false),
        2 => {
            let piece = 1 + random.magnitude(length.max(1));
            let starts = (0..length).step_by(piece as usize);
            let chunks = starts
                .map(move |at| body_bytes(http::upload(id), at, piece.min(length - at) as usize));
            (sized(Body::chunks(chunks)), None, true)
        }
        _ => {
            let is_replayable = random.chance(500);
            let body = sized(Body::pushed().replayable(is_replayable));
            let pushing = Pushing {
                fetch: None,
                name: http::upload(id),
                length,
                is_announced,
                is_replayable,
                at: 0,
                is_finished: false,
                finishes: true,
                next_at: None,
            };
            (body, Some(pushing), !is_replayable)
        }
    }
}

impl Pushes {
    pub(crate) fn new(seed: u64) -> Self {
        Self { jobs: BTreeMap::new(), random: Random::new(mix(seed ^ 0x70_75)) }
    }

    pub(crate) fn begin(&mut self, id: u64, fetch: FetchId, pushing: Pushing) {
        self.jobs.insert(id, Pushing { fetch: Some(fetch), ..pushing });
    }

    /// What a fetch says in another protocol, in place of its body.
    pub(crate) fn switch(&mut self, id: u64, fetch: FetchId, length: u64) {
        let finishes = self.random.chance(500);
        let pushing = Pushing {
            fetch: Some(fetch),
            name: upgrades::speech(id),
            length,
            // There are no trailers there.
            is_announced: true,
            is_replayable: false,
            at: 0,
            is_finished: false,
            finishes,
            next_at: None,
        };
        self.jobs.insert(id, pushing);
    }

    pub(crate) fn end(&mut self, id: u64) {
        self.jobs.remove(&id);
    }

    /// The reactor asks for more.
    pub(crate) fn asked(&mut self, id: u64, offset: u64, now: u64, ledger: &mut Ledger) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return ledger.break_law(format!("fetch {id} is asked for a body that is not pushed"));
        };
        let begins_anew = offset == 0 && (job.is_replayable || job.at == 0);
        if offset != job.at && !begins_anew {
            let at = job.at;
            ledger.break_law(format!("fetch {id} is asked for byte {offset}, it has given {at}"));
        }
        job.is_finished &= offset != 0;
        job.at = offset;
        let is_prompt = self.random.chance(500);
        let delay = if is_prompt { 0 } else { self.random.magnitude(500_000) };
        job.next_at = Some(now + delay);
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.jobs.values().filter_map(|job| job.next_at).min()
    }

    /// Gives what is due.
    pub(crate) fn give<N: Net>(&mut self, reactor: &mut Reactor<N>, now: u64, ledger: &mut Ledger) {
        for (id, job) in &mut self.jobs {
            // Unasked, now and then: it takes what it can, and nothing breaks.
            let is_due = job.next_at.is_some_and(|at| at <= now) || self.random.chance(20);
            let Some(fetch) = job.fetch.filter(|_| is_due) else { continue };
            job.next_at = None;
            let left = job.length - job.at;
            let most = if self.random.chance(300) { left } else { self.random.magnitude(left) };
            let chunk = body_bytes(job.name, job.at, most as usize);
            match reactor.send_body(fetch, &chunk) {
                Ok(taken) if taken as u64 > most => ledger.break_law("it takes more than it got"),
                Ok(taken) => job.at += taken as u64,
                Err(BodyRefused::TooLong) => ledger.break_law(format!("f{id} was not too long")),
                Err(_) => {}
            }
            if job.at < job.length || job.is_finished || !job.finishes {
                // An empty chunk asks for nothing.
                job.next_at = (most == 0 && job.at < job.length).then_some(now + 1_000);
                continue;
            }
            let trailers: &[(&str, &str)] =
                if self.random.chance(300) && !job.is_announced { &[("X-Sum", "1")] } else { &[] };
            match reactor.finish_body_with(fetch, trailers) {
                Ok(()) => job.is_finished = true,
                Err(BodyRefused::TooShort { .. }) => ledger.break_law(format!("f{id} is whole")),
                Err(_) => {}
            }
        }
    }
}

/// A chunked body, as a server hears it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Heard {
    line: Vec<u8>,
    /// Of the chunk under way.
    pub(crate) left: u64,
    is_behind_data: bool,
    is_behind_last: bool,
    pub(crate) is_whole: bool,
}

impl Heard {
    /// A byte that is not data.
    pub(crate) fn framing(&mut self, byte: u8) -> Result<(), String> {
        self.line.push(byte);
        let Some(line) = self.line.strip_suffix(b"\r\n") else { return Ok(()) };
        let line = String::from_utf8_lossy(line).into_owned();
        self.line.clear();
        if self.is_behind_last {
            self.is_whole = line.is_empty();
        } else if self.is_behind_data {
            self.is_behind_data = false;
            if !line.is_empty() {
                return Err(format!("behind a chunk: {line:?}"));
            }
        } else {
            let size = u64::from_str_radix(&line, 16);
            self.left = size.map_err(|_| format!("a chunk's size: {line:?}"))?;
            self.is_behind_last = self.left == 0;
            self.is_behind_data = self.left > 0;
        }
        Ok(())
    }
}
