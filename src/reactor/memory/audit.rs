//! Floor 2, where debug assertions are on, and nowhere else. Who starves, by the lists.

use super::{Memory, Starving};
use crate::kit::arena::Arena;
use crate::kit::list::List;
use crate::reactor::fetch::Fetch;
use crate::reactor::memory::Flow;

impl Memory {
    /// How many are in the list of those that stream, and of those that the reserve may go to.
    pub(in crate::reactor) fn audit(&self, fetches: &mut Arena<Fetch>) -> [usize; 2] {
        [walk(&self.streaming, fetches, false), walk(&self.favourable, fetches, true)]
    }

    /// Up to how many bytes may wait, but for what the one that reads on from the reserve keeps.
    pub(in crate::reactor) fn most(&self) -> usize {
        self.most
    }
}

fn walk(list: &List<Fetch, Starving>, fetches: &mut Arena<Fetch>, expected: bool) -> usize {
    let (mut count, mut next) = (0, list.first());
    while let Some(key) = next {
        count += 1;
        assert!(count <= fetches.len(), "a list has an end");
        let starves = |it: &Fetch| match it.flow {
            Flow::Starved { is_favourable, .. } => is_favourable == expected,
            _ => false,
        };
        assert!(fetches.get(key).is_some_and(starves), "who is in a list of the starving does");
        next = list.after(fetches, key);
    }
    assert_eq!(count, list.len(), "a list knows its length");
    count
}
