//! What the servers said and the program asked, by number, and the first law that was broken.

use std::collections::{BTreeMap, BTreeSet};

use super::random::body_bytes;

/// One response that a server began. Its number, the nonce, names its body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The request it answers.
    pub(crate) id: u64,
    /// How long the body of a success is; none: it must not be taken for a whole one.
    pub(crate) whole: Option<u64>,
}

/// What the program asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) body_bytes: u64,
    /// Its body can be sent once.
    pub(crate) is_once: bool,
    /// How much it means to say in another protocol, where it asks for one.
    pub(crate) says: Option<u64>,
    /// Its body is gathered, so that it cannot change its protocol.
    pub(crate) is_collected: bool,
    pub(crate) origin: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What makes the requests of one seed different from those of another.
    pub(crate) salt: u64,
    answers: Vec<Answer>,
    /// What servers have said in other protocols, by nonce.
    speeches: BTreeMap<u64, Vec<u8>>,
    asked: BTreeMap<u64, Asking>,
    /// Requests that may be given what nobody asked for: it was on its way before they were.
    poisonable: BTreeSet<u64>,
    /// Connections that spoke before their first request, whose number is not known yet.
    pub(crate) loose_poison: u64,
    /// What nobody asked for has crossed a request on the way, so that an answer, a redirect
    /// perhaps, may have come to another fetch: nobody can know.
    pub(crate) has_crossed: bool,
    /// Fetches that have a reason to fail, and origins all of whose fetches have.
    excused: BTreeSet<u64>,
    excused_origins: BTreeSet<usize>,
    /// How often a request was received that must not be sent twice.
    received: BTreeMap<(u64, u64), u32>,
    broken: Option<String>,
    pub(crate) requests_served: u64,
    pub(crate) hedges: u64,
    pub(crate) switched: u64,
    pub(crate) fetches_done: u64,
    pub(crate) fetches_failed: u64,
    pub(crate) fetches_cancelled: u64,
}

impl Ledger {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    /// The first law that is broken is the one that is told.
    pub(crate) fn break_law(&mut self, law: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some(law.into());
        }
    }

    /// The same, of what a fetch was led to by the answer to another.
    pub(crate) fn break_law_unless_crossed(&mut self, law: impl Into<String>) {
        if !self.has_crossed {
            self.break_law(law);
        }
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(crate) fn ask(&mut self, id: u64, asking: Asking) {
        self.asked.insert(id, asking);
    }

    pub(crate) fn asking(&self, id: u64) -> Option<&Asking> {
        self.asked.get(&id)
    }

    /// A server begins a response; its nonce.
    pub(crate) fn answer(&mut self, answer: Answer) -> u64 {
        self.requests_served += 1;
        self.answers.push(answer);
        self.answers.len() as u64
    }

    pub(crate) fn spoil(&mut self, nonce: u64) {
        if let Some(answer) = self.answers.get_mut(nonce as usize - 1) {
            answer.whole = None;
        }
    }

    /// The body of response `nonce` ends after so many bytes, and nobody can tell.
    pub(crate) fn shorten(&mut self, nonce: u64, length: u64) {
        if let Some(answer) = self.answers.get_mut(nonce as usize - 1) {
            answer.whole = Some(length);
        }
    }

    /// Response `nonce` is another protocol.
    pub(crate) fn begin_speech(&mut self, nonce: u64) {
        self.speeches.insert(nonce, Vec::new());
    }

    /// A server says this in it.
    pub(crate) fn speak(&mut self, nonce: u64, bytes: &[u8]) {
        self.speeches.entry(nonce).or_default().extend_from_slice(bytes);
    }

    /// A server has said all that it says in it.
    pub(crate) fn end_speech(&mut self, nonce: u64) {
        let said = self.speeches.get(&nonce).map_or(0, Vec::len);
        self.shorten(nonce, said as u64);
    }

    /// Changes the length of the response that was begun last.
    pub(crate) fn amend_last(&mut self, change: impl FnOnce(Option<u64>) -> Option<u64>) {
        if let Some(answer) = self.answers.last_mut() {
            answer.whole = change(answer.whole);
        }
    }

    pub(crate) fn excuse(&mut self, id: u64) {
        self.excused.insert(id);
    }

    pub(crate) fn excuse_origin(&mut self, origin: usize) {
        self.excused_origins.insert(origin);
    }

    pub(crate) fn is_excused(&self, id: u64) -> bool {
        self.excused.contains(&id) || !self.excused_origins.is_empty()
    }

    pub(crate) fn allow_poison(&mut self, id: u64) {
        self.poisonable.insert(id);
    }

    pub(crate) fn is_poisonable(&self, id: u64) -> bool {
        self.poisonable.contains(&id)
    }

    /// A request that is not idempotent has come whole.
    pub(crate) fn receive_once(&mut self, id: u64, hop: u64) {
        let times = self.received.entry((id, hop)).or_default();
        *times += 1;
        let times = *times;
        if times > 1 {
            self.break_law_unless_crossed(format!(
                "request {id} is not idempotent and was sent {times} times"
            ));
        }
    }

    /// It is to be sent again: its server says so.
    pub(crate) fn expect_again(&mut self, id: u64, hop: u64) {
        self.received.remove(&(id, hop));
    }

    /// Bytes of a body were handed to fetch `id`, of the response that calls itself `nonce`.
    pub(crate) fn check_chunk(&mut self, id: u64, nonce: u64, at: u64, chunk: &[u8]) {
        let answer = (nonce as usize).checked_sub(1).and_then(|at| self.answers.get(at));
        let is_own = answer.is_some_and(|answer| answer.id == id);
        if !is_own && !self.is_poisonable(id) && self.loose_poison > 0 {
            self.loose_poison -= 1;
            self.allow_poison(id);
        }
        if self.is_poisonable(id) {
            return;
        }
        let Some(answer) = (nonce as usize).checked_sub(1).and_then(|at| self.answers.get(at))
        else {
            return self.break_law(format!("fetch {id} was given what nobody asked for"));
        };
        if answer.id != id {
            let other = answer.id;
            return self.break_law(format!("fetch {id} was given the response to {other}"));
        }
        let is_sent = match self.speeches.get(&nonce) {
            Some(speech) => speech.get(at as usize..at as usize + chunk.len()) == Some(chunk),
            None => body_bytes(nonce, at, chunk.len()) == chunk,
        };
        if !is_sent {
            self.break_law(format!("fetch {id}: body bytes from {at} on are not those sent"));
        }
    }

    /// Fetch `id` was told that `length` bytes are the whole body.
    pub(crate) fn check_whole(&mut self, id: u64, nonce: u64, length: u64) {
        self.check_chunk(id, nonce, 0, &[]);
        if self.is_poisonable(id) || self.broken.is_some() {
            return;
        }
        self.switched += u64::from(self.speeches.contains_key(&nonce));
        let whole = self.answers.get(nonce as usize - 1).and_then(|answer| answer.whole);
        if whole != Some(length) {
            self.break_law(format!(
                "fetch {id} ended well with {length} bytes; of response {nonce}, {whole:?} are \
                 the whole"
            ));
        }
    }
}
