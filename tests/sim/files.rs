//! Bodies that are files: real ones, without a name, some of which change while they are sent or
//! before.
//!
//! What must hold: a server hears what stood in the file when it was given, and as much, again
//! after redirects and retries; where the file gets shorter, the fetch fails by that, or for
//! another cause, unless its answer did not wait for the rest.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::sync::atomic::{AtomicU64, Ordering};

use whippet::{Body, Error, Kind, Phase};

use super::http;
use super::plan::Plan;
use super::random::{Random, body_bytes, mix};

/// Those of one seed, by request.
#[derive(Debug)]
pub(crate) struct Files {
    per_mille: u32,
    /// None is calm.
    has_faults: bool,
    salt: u64,
    random: Random,
    open: BTreeMap<u64, Open>,
    /// Those that came whole to a server, and those that did not for their fault.
    pub(crate) sent: u64,
    pub(crate) cut: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    change: Change,
}

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    None,
    /// It has more at its end than when it was given.
    Grows,
    /// It was shorter before it was sent.
    WasCut,
    /// It gets shorter at some time.
    IsCut,
}

impl Files {
    /// Drawn apart from all else: a seed without files is the same as if there were none for
    /// anybody.
    pub(crate) fn of(salt: u64, plan: &Plan) -> Self {
        let mut random = Random::new(mix(salt ^ SALT));
        let per_mille = if random.chance(400) { random.below(600) as u32 } else { 0 };
        let has_faults = !plan.scenario.is_calm();
        Self { per_mille, has_faults, salt, random, open: BTreeMap::new(), sent: 0, cut: 0 }
    }

    /// The body of request `id` as a file, where it is one, by its number alone.
    pub(crate) fn body(&mut self, id: u64, length: u64) -> Option<Body> {
        let mut random = Random::new(mix(self.salt ^ SALT ^ id));
        if !random.chance(self.per_mille) {
            return None;
        }
        let cut = if self.has_faults { Change::IsCut } else { Change::None };
        let change =
            *random.pick(&[Change::None, Change::None, Change::Grows, Change::WasCut, cut]);
        let (file, body) = open(&body_bytes(http::upload(id), 0, length as usize));
        let opened = Open { file, length, change };
        match change {
            Change::Grows => opened.resize(length + 1 + random.magnitude(1_000)),
            Change::WasCut if length > 0 => opened.resize(random.below(length)),
            _ => {}
        }
        self.open.insert(id, opened);
        Some(body)
    }

    /// Time passes: a file gets shorter, perhaps.
    pub(crate) fn cut_one(&mut self) {
        let Self { open, random, .. } = self;
        let waiting = |(_, open): &(&u64, &mut Open)| open.change == Change::IsCut;
        let nth = random.index(2 * open.len().max(1));
        if let Some((_, open)) = open.iter_mut().filter(waiting).nth(nth) {
            open.resize(random.below(open.now().max(1)).min(open.now()));
        }
    }

    /// A request has come whole to a server.
    pub(crate) fn came(&mut self, id: u64) {
        self.sent += u64::from(self.open.contains_key(&id));
    }

    /// Whether a fetch may fail as its file is not what it was.
    pub(crate) fn excuses(&mut self, id: u64, error: &Error) -> bool {
        let is_cut = self.open.get(&id).is_some_and(|open| open.is_cut());
        let is_told = is_cut && error.kind() == Kind::Io && error.phase() == Phase::Send;
        self.cut += u64::from(is_told);
        is_told
    }

    /// Whether it must: nothing of the answer may come before the body has.
    pub(crate) fn was_cut(&self, id: u64) -> bool {
        self.open.get(&id).is_some_and(|open| open.change == Change::WasCut && open.is_cut())
    }
}

impl Open {
    fn resize(&self, length: u64) {
        self.file.set_len(length).unwrap();
    }

    fn now(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    fn is_cut(&self) -> bool {
        self.now() < self.length
    }
}

/// A file that has these bytes and no name any more, so that nothing is left of it, however a run
/// ends; and what is sent of it.
fn open(bytes: &[u8]) -> (File, Body) {
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("whippet-sim-{}-{nth}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let body = Body::file(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    (file, body)
}

/// No two files of a process have one name.
static NEXT: AtomicU64 = AtomicU64::new(0);
const SALT: u64 = 0x6669_6c65;
