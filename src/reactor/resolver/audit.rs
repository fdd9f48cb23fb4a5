//! Floor 2, where debug assertions are on, and nowhere else. The resolver's own books.
//!
//! In goes the resolver between two steps; out comes how many wait for names, or a panic that names
//! the law.

use super::job::{Job, Stage};
use super::{ASKING_MAX, LookupKey, Resolver, TOKEN_KEY_MASK};
use crate::kit::arena::Key;
use crate::net::Net;

impl<N: Net, W> Resolver<N, W> {
    /// `waits`: whether somebody waits for a lookup by his own word.
    pub(in crate::reactor) fn audit(&self, waits: impl Fn(&W, LookupKey) -> bool) -> usize {
        let (mut waiters, mut asking, mut sockets) = (0, 0, 0);
        for (key, job) in self.jobs.iter() {
            assert!(self.by_name.get(&*job.name) == Some(&key), "a lookup is found by its name");
            assert!(!job.waiters.is_empty(), "somebody waits for a lookup");
            let lookup = LookupKey(key.to_bits());
            let is_wanted = job.waiters.iter().all(|waiter| waits(waiter, lookup));
            assert!(is_wanted, "who waits for a lookup knows it");
            waiters += job.waiters.len();
            match &job.stage {
                Stage::Queued => assert!(self.queue.contains(&key), "a queued lookup is in line"),
                Stage::System => {}
                Stage::Asking { sockets: own, .. } => {
                    asking += 1;
                    sockets += own.iter().flatten().count();
                    let is_owned = own.iter().flatten().all(|token| self.is_of(token.0, key));
                    assert!(is_owned, "a lookup's sockets are open and its own");
                    assert!(job.due <= job.deadline(), "a lookup's deadline has a timer");
                }
            }
        }
        assert_eq!(self.by_name.len(), self.jobs.len(), "a name is looked up once");
        assert_eq!(
            (self.asking, self.sockets.len()),
            (asking, sockets),
            "what is asked is counted"
        );
        assert!(asking <= ASKING_MAX, "more lookups ask than may");
        let is_told = self.finished.iter().all(|ended| waits(&ended.waiter, ended.lookup));
        assert!(is_told, "who is told of a lookup's end waits for it");
        waiters + self.finished.len()
    }

    fn is_of(&self, token: u64, job: Key<Job<W>>) -> bool {
        let socket = Key::from_bits(token & TOKEN_KEY_MASK).and_then(|key| self.sockets.get(key));
        socket.is_some_and(|socket| socket.job == job)
    }
}
