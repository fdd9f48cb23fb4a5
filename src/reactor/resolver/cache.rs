//! Floor 2. What lookups found, by name, for as long as it holds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Resolved;
use crate::kit::moment::Moment;

/// Answers by name, at most [`NAMES_MAX`]. The name that was first met is the first to go, whether
/// it was asked for lately or not: one more lookup costs less than keeping an order of use.
#[derive(Default, Debug)]
pub(super) struct Cache {
    entries: HashMap<Arc<str>, Entry>,
    /// Each key of `entries` once.
    order: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    resolved: Resolved,
    expires: Moment,
}

impl Cache {
    /// What holds for `name` now. What has expired stays where it is: the lookup that follows
    /// writes over it.
    pub(super) fn get(&self, name: &str, now: Moment) -> Option<Resolved> {
        let entry = self.entries.get(name)?;
        (now < entry.expires).then(|| entry.resolved.clone())
    }

    pub(super) fn insert(
        &mut self,
        name: &Arc<str>,
        resolved: Resolved,
        now: Moment,
        ttl: Duration,
    ) {
        let entry = Entry { resolved, expires: now.after(ttl) };
        if self.entries.insert(Arc::clone(name), entry).is_some() {
            return;
        }
        self.order.push_back(Arc::clone(name));
        if self.order.len() > NAMES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// About a megabyte.
const NAMES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dns::DnsError;

    #[test]
    fn names_expire_and_the_oldest_makes_room() {
        let mut cache = Cache::default();
        let absent: Resolved = Err(DnsError::NoSuchName);
        let start = Moment::START;
        let ttl = Duration::from_secs(2);
        for n in 0..NAMES_MAX {
            cache.insert(&format!("n{n}").into(), absent.clone(), start, ttl);
        }
        let one = start.after(Duration::from_secs(1));
        let two = start.after(ttl);
        assert!(cache.get("n0", one).is_some());
        assert!(cache.get("n0", two).is_none());
        cache.insert(&"n0".into(), absent.clone(), two, ttl);
        assert!(cache.get("n0", two).is_some());
        assert_eq!(cache.order.len(), NAMES_MAX);
        cache.insert(&"new".into(), absent, two, ttl);
        assert!(cache.get("n0", two).is_none());
        assert!(cache.get("n1", one).is_some());
        assert_eq!((cache.order.len(), cache.entries.len()), (NAMES_MAX, NAMES_MAX));
    }
}
