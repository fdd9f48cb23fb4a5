//! Floor 0. A hierarchical timing wheel (Varghese and Lauck, 1987): who is due, in constant time.
//!
//! In go a deadline and a small value, out comes the value once its time has come: never early, at
//! most one tick late. Deadlines round up to a tick, the present rounds down.
//!
//! Four levels of 64 slots; a slot of level n spans 64^n ticks. An entry lies on the level of the
//! highest base-64 digit in which its tick differs from the present one, so all of a level comes
//! before anything on the next, and the first occupied slot is found by four bitmap scans. When an
//! upper slot's time begins, its entries are dealt to the levels below. Slots are lists linked by
//! index through one `Vec`.

use std::num::NonZeroU32;

use super::moment::Moment;

/// The unit that deadlines are rounded up to.
pub(crate) const TICK_MICROS: u64 = 1_000;

/// The name of one entry: stale once the entry fired or was removed, and then it misses, until
/// its place was used 2^32 - 1 times more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

/// Values waiting for their time.
///
/// [`Self::insert`], [`Self::remove`] and [`Self::rearm`] are constant time. An entry is dealt
/// down at most three times on its way; one that is further off than the span, four and a half
/// hours, lies in the last slot and is dealt anew each time that slot comes round, unseen by the
/// caller.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// Every entry and every free place. It never shrinks, so an index in a link is always good.
    nodes: Vec<Node<T>>,
    /// The first free place, linked by `next`.
    free: u32,
    slots: [Slot; LEVELS * SLOTS],
    /// A bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    /// The tick that the slots are counted from: everything before it has fired.
    elapsed: u64,
    /// The latest tick that the caller told; `elapsed` trails it while entries come due.
    latest: u64,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    /// The deadline as it was given, beyond the span or not.
    at: Moment,
    what: T,
    generation: NonZeroU32,
    prev: u32,
    next: u32,
    slot: u8,
}

/// A list's two ends; both [`NIL`] where it is empty.
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    last: u32,
}

impl<T: Copy> Wheel<T> {
    /// A wheel that allocates no more until over `entries` are armed at once.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(entries),
            free: NIL,
            slots: [EMPTY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            elapsed: 0,
            latest: 0,
            len: 0,
        }
    }

    /// Arms an entry. What is due already comes up with the next call of [`Self::next_due`], also
    /// in the middle of a drain: who re-arms in the past within one never sees its end.
    ///
    /// A deadline of [`Moment::NEVER`] should not be armed at all.
    pub(crate) fn insert(&mut self, at: Moment, what: T) -> TimerId {
        debug_assert!(!at.is_never(), "a deadline that was not set needs no entry");
        self.len += 1;
        let index = if self.free == NIL {
            self.grow(at, what)
        } else {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            (node.at, node.what) = (at, what);
            index
        };
        self.link(index);
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Disarms an entry; none if it fired or was removed before.
    pub(crate) fn remove(&mut self, id: TimerId) -> Option<T> {
        self.find(id)?;
        self.unlink(id.index);
        Some(self.release(id.index))
    }

    /// Moves an entry to another time, sooner or later. `false`: it is gone.
    pub(crate) fn rearm(&mut self, id: TimerId, at: Moment) -> bool {
        debug_assert!(!at.is_never(), "a deadline that was not set needs no entry");
        if self.find(id).is_none() {
            return false;
        }
        self.unlink(id.index);
        self.nodes[id.index as usize].at = at;
        self.link(id.index);
        true
    }

    /// When an entry is due, as it was given.
    pub(crate) fn deadline(&self, id: TimerId) -> Option<Moment> {
        self.find(id).map(|node| node.at)
    }

    /// Until when the caller may sleep before it asks [`Self::next_due`] again.
    ///
    /// Never later than the earliest deadline, rounded up to a tick. Exact on level 0, that is for
    /// a deadline in the current block of 64 ticks; above, the moment at which its slot's time
    /// begins, so that one entry costs at most three wake-ups that find nothing due (and one for
    /// each four and a half hours). It lies after the `now` of the last drain that was finished,
    /// except where entries were armed in the past since: then it is at most that `now`.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let (_, start) = self.earliest()?;
        Some(Moment::from_micros(start.saturating_mul(TICK_MICROS)))
    }

    /// Takes out one entry whose time has come, earlier ticks first; to be called until `None`.
    ///
    /// `now` never goes back; where it does, the latest counts. Empty stretches cost nothing
    /// however long they are, except that deadlines beyond the span are looked at once for each
    /// span that is skipped.
    pub(crate) fn next_due(&mut self, now: Moment) -> Option<T> {
        self.latest = self.latest.max(now.micros() / TICK_MICROS);
        while let Some((slot, start)) = self.earliest()
            && start <= self.latest
        {
            self.elapsed = start;
            if slot < SLOTS {
                let index = self.slots[slot].first;
                self.unlink(index);
                return Some(self.release(index));
            }
            self.deal(slot);
        }
        // Nothing lies between: every slot that the present passes is empty.
        self.elapsed = self.latest;
        None
    }

    /// An entry as it stands: when it is due, and its value.
    #[cfg(debug_assertions)]
    pub(crate) fn entry(&self, id: TimerId) -> Option<(Moment, T)> {
        self.find(id).map(|node| (node.at, node.what))
    }

    /// How many entries are of a kind. Looks at all of them.
    #[cfg(debug_assertions)]
    pub(crate) fn count(&self, is_one: impl Fn(T) -> bool) -> usize {
        let mut count = 0;
        for slot in &self.slots {
            let mut index = slot.first;
            while index != NIL {
                let node = &self.nodes[index as usize];
                count += usize::from(is_one(node.what));
                index = node.next;
            }
        }
        count
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn find(&self, id: TimerId) -> Option<&Node<T>> {
        // A free place already has the generation of its next entry, which no id has yet.
        self.nodes.get(id.index as usize).filter(|node| node.generation == id.generation)
    }

    /// The first slot that is not empty, and the tick at which its time begins: on level 0 the
    /// tick of all its entries.
    fn earliest(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let shift = level * SLOT_BITS;
        let current = self.elapsed >> shift;
        let from_current = self.occupied[level].rotate_right((current % 64) as u32);
        let next = current + u64::from(from_current.trailing_zeros());
        Some((level * SLOTS + (next % 64) as usize, next << shift))
    }

    /// The slot for a deadline, as seen from the present.
    #[allow(clippy::cast_possible_truncation, reason = "level * 64 + digit is at most 255")]
    fn slot_for(&self, at: Moment) -> u8 {
        let due = at.micros().div_ceil(TICK_MICROS);
        let tick = due.clamp(self.elapsed, self.elapsed + AHEAD_TICKS_MAX);
        let highest_bit = ((tick ^ self.elapsed) | (SLOTS as u64 - 1)).ilog2() as usize;
        let level = (highest_bit / SLOT_BITS).min(LEVELS - 1);
        let digit = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
        (level * SLOTS + digit) as u8
    }

    /// Deals the entries of an upper slot, whose time begins now, to where they belong.
    fn deal(&mut self, slot: usize) {
        let mut index = self.slots[slot].first;
        self.slots[slot] = EMPTY;
        self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        while index != NIL {
            let next = self.nodes[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let slot = self.slot_for(self.nodes[index as usize].at);
        let ends = &mut self.slots[usize::from(slot)];
        let node = &mut self.nodes[index as usize];
        (node.prev, node.next, node.slot) = (ends.last, NIL, slot);
        let before = ends.last;
        ends.last = index;
        if before == NIL {
            ends.first = index;
            self.occupied[usize::from(slot) / SLOTS] |= 1 << (usize::from(slot) % SLOTS);
        } else {
            self.nodes[before as usize].next = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Node { prev, next, slot, .. } = self.nodes[index as usize];
        let ends = &mut self.slots[usize::from(slot)];
        if next == NIL {
            ends.last = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
        if prev == NIL {
            ends.first = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if ends.first == NIL {
            self.occupied[usize::from(slot) / SLOTS] &= !(1 << (usize::from(slot) % SLOTS));
        }
    }

    fn grow(&mut self, at: Moment, what: T) -> u32 {
        // Memory ends long before the indexes do: 2^32 nodes take over 100 GB.
        let index = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        let generation = NonZeroU32::MIN;
        self.nodes.push(Node { at, what, generation, prev: NIL, next: NIL, slot: 0 });
        index
    }

    /// Frees the place of an entry that is in no list any more.
    fn release(&mut self, index: u32) -> T {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
        node.what
    }
}

const LEVELS: usize = 4;
const SLOTS: usize = 64;
/// The slots of a level are counted by one base-64 digit.
const SLOT_BITS: usize = 6;
const SPAN_TICKS: u64 = 1 << (LEVELS * SLOT_BITS);
const TOP_SLOT_TICKS: u64 = 1 << ((LEVELS - 1) * SLOT_BITS);
/// How far ahead of the present an entry lies at most. One slot less than the span: a full turn
/// ahead would be the slot that is being dealt, and its entries would return to it for ever.
const AHEAD_TICKS_MAX: u64 = SPAN_TICKS - TOP_SLOT_TICKS;
/// No node.
const NIL: u32 = u32::MAX;
const EMPTY: Slot = Slot { first: NIL, last: NIL };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn micros(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    fn ticks(ticks: u64) -> Moment {
        micros(ticks * TICK_MICROS)
    }

    fn drain(wheel: &mut Wheel<u32>, now: Moment) -> Vec<u32> {
        std::iter::from_fn(|| wheel.next_due(now)).collect()
    }

    #[test]
    fn a_deadline_rounds_up_and_the_present_rounds_down() {
        let mut wheel = Wheel::with_capacity(4);
        wheel.insert(micros(5_001), 6);
        wheel.insert(micros(5_000), 5);
        assert_eq!(wheel.next_deadline(), Some(ticks(5)));
        assert_eq!(wheel.next_due(micros(4_999)), None);
        assert_eq!(drain(&mut wheel, micros(5_999)), [5]);
        assert_eq!(drain(&mut wheel, micros(6_000)), [6]);
        assert_eq!((wheel.next_deadline(), wheel.is_empty()), (None, true));
    }

    #[test]
    fn earlier_ticks_come_first_whatever_level_they_came_from() {
        let mut wheel = Wheel::with_capacity(8);
        for tick in [300_000, 70_000, 5_000, 4_096, 65, 64, 63, 1] {
            wheel.insert(ticks(u64::from(tick)), tick);
        }
        let all = drain(&mut wheel, ticks(10_000_000));
        assert_eq!(all, [1, 63, 64, 65, 4_096, 5_000, 70_000, 300_000]);
    }

    #[test]
    fn a_stale_id_misses() {
        let mut wheel = Wheel::with_capacity(1);
        let first = wheel.insert(ticks(3), 1);
        assert_eq!(wheel.deadline(first), Some(ticks(3)));
        assert_eq!(wheel.remove(first), Some(1));
        let second = wheel.insert(ticks(4), 2);
        assert_eq!(first.index, second.index);
        assert_eq!(wheel.remove(first), None);
        assert!(!wheel.rearm(first, ticks(9)));
        assert_eq!(wheel.deadline(first), None);
        assert_eq!(drain(&mut wheel, ticks(4)), [2]);
        assert_eq!(wheel.remove(second), None);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn the_past_is_due_at_once_and_time_never_goes_back() {
        let mut wheel = Wheel::with_capacity(4);
        assert_eq!(wheel.next_due(ticks(1_000)), None);
        wheel.insert(ticks(10), 1);
        wheel.insert(ticks(1_000), 2);
        assert_eq!(wheel.next_deadline(), Some(ticks(1_000)));
        assert_eq!(drain(&mut wheel, ticks(5)), [1, 2]);
        // Armed between two calls of one drain, in its past and in its future.
        wheel.insert(ticks(1_100), 3);
        wheel.insert(ticks(1_200), 4);
        assert_eq!(wheel.next_due(ticks(1_200)), Some(3));
        wheel.insert(ticks(1_150), 5);
        wheel.insert(ticks(1_201), 6);
        assert_eq!(drain(&mut wheel, ticks(1_000)), [5, 4]);
        assert_eq!(wheel.next_deadline(), Some(ticks(1_201)));
    }

    #[test]
    fn far_deadlines_come_up_in_their_own_time_from_every_start() {
        for start in [0, 1, TOP_SLOT_TICKS - 1, SPAN_TICKS - 1, SPAN_TICKS, 5 * SPAN_TICKS + 77] {
            for ahead in [AHEAD_TICKS_MAX, SPAN_TICKS - 1, SPAN_TICKS, 3 * SPAN_TICKS + 12_345] {
                let mut wheel = Wheel::with_capacity(1);
                assert_eq!(wheel.next_due(ticks(start)), None);
                let id = wheel.insert(ticks(start + ahead), 1);
                let (mut steps, mut now) = (0, ticks(start));
                while !wheel.is_empty() {
                    let next = wheel.next_deadline().unwrap();
                    assert!(next > now && next <= ticks(start + ahead));
                    assert_eq!(wheel.deadline(id), Some(ticks(start + ahead)));
                    (steps, now) = (steps + 1, next);
                    wheel.next_due(now);
                }
                assert_eq!(now, ticks(start + ahead));
                assert!(steps <= 8, "{steps}");
            }
        }
    }

    #[test]
    fn the_end_of_time_does_no_harm() {
        let (mut wheel, last) = (Wheel::with_capacity(1), micros(u64::MAX - 1));
        let id = wheel.insert(last, 1);
        assert_eq!(wheel.next_due(ticks(1_000 * SPAN_TICKS)), None);
        assert_eq!((wheel.deadline(id), wheel.remove(id)), (Some(last), Some(1)));
        assert_eq!(wheel.next_due(Moment::NEVER), None);
        // Rounded up, it lies behind every present, which is rounded down.
        wheel.insert(last, 2);
        assert!(wheel.next_deadline().is_some() && wheel.next_due(Moment::NEVER).is_none());
    }

    /// A wheel beside what it should hold. An entry's value is its index in `armed`.
    struct Pair {
        wheel: Wheel<u32>,
        armed: Vec<Option<(u64, TimerId)>>,
        by_time: BTreeSet<(u64, u32)>,
        stale: Option<TimerId>,
        now: u64,
        fired: u64,
        seed: u64,
    }

    impl Pair {
        /// A number below `bound`, which is below 2^44; every run the same.
        fn below(&mut self, bound: u64) -> u64 {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.seed >> 20) % bound
        }

        fn some_time(&mut self) -> u64 {
            let tick = TICK_MICROS;
            match self.below(64) {
                0 => self.now.saturating_sub(self.below(9_000)),
                1 => self.now,
                // A burst: thousands share this tick.
                2..4 => (self.now / (700 * tick) + 1) * 700 * tick,
                4..8 => self.now + self.below(70 * tick),
                8..16 => self.now + self.below(5_000 * tick),
                16..54 => self.now + self.below(300_000 * tick),
                54..60 => self.now + self.below(2 * SPAN_TICKS * tick),
                _ => self.now + self.below(20 * SPAN_TICKS * tick),
            }
        }

        fn arm(&mut self, entry: u32) {
            let at = self.some_time();
            let place = entry as usize;
            let id = match self.armed[place] {
                Some((old, id)) => {
                    assert_eq!(self.wheel.deadline(id), Some(micros(old)));
                    assert!(self.wheel.rearm(id, micros(at)));
                    assert!(self.by_time.remove(&(old, entry)));
                    id
                }
                None => self.wheel.insert(micros(at), entry),
            };
            self.armed[place] = Some((at, id));
            self.by_time.insert((at, entry));
        }

        fn disarm(&mut self, entry: u32) {
            if let Some((at, id)) = self.armed[entry as usize].take() {
                assert_eq!(self.wheel.remove(id), Some(entry));
                assert!(self.by_time.remove(&(at, entry)));
                self.stale = Some(id);
            }
            if let Some(id) = self.stale {
                assert!(!self.wheel.rearm(id, micros(self.now)));
            }
        }

        fn advance(&mut self, to: u64) {
            self.now = self.now.max(to);
            while let Some(entry) = self.wheel.next_due(micros(self.now)) {
                let (at, id) = self.armed[entry as usize].take().unwrap();
                assert!(at <= self.now, "early: {at} at {}", self.now);
                assert!(self.by_time.remove(&(at, entry)));
                self.stale = Some(id);
                self.fired += 1;
            }
            let next = self.wheel.next_deadline().map(Moment::micros);
            if let Some(&(first, _)) = self.by_time.first() {
                let due = first.div_ceil(TICK_MICROS) * TICK_MICROS;
                assert!(due > self.now, "late: {first} at {}", self.now);
                assert!(next.is_some_and(|next| self.now < next && next <= due));
            } else {
                assert_eq!(next, None);
            }
            assert_eq!(self.wheel.len(), self.by_time.len());
        }

        fn step(&mut self, entry: u32) {
            let ticks = match self.below(1_000_000) {
                0..700_000 => return self.arm(entry),
                700_000..850_000 => return self.disarm(entry),
                850_000..980_000 => {
                    let next = self.wheel.next_deadline().map_or(self.now, Moment::micros);
                    return self.advance(next);
                }
                980_000..999_980 => 100,
                999_980..999_995 => 100_000,
                _ => 30 * SPAN_TICKS,
            };
            let to = self.now + self.below(ticks * TICK_MICROS);
            self.advance(to);
        }
    }

    #[test]
    fn a_million_mixed_operations_agree_with_a_model() {
        const ENTRIES: u32 = 150_000;
        let mut pair = Pair {
            wheel: Wheel::with_capacity(ENTRIES as usize),
            armed: vec![None; ENTRIES as usize],
            by_time: BTreeSet::new(),
            stale: None,
            now: 123_456,
            fired: 0,
            seed: 1,
        };
        let (room, mut crowded) = (pair.wheel.nodes.capacity(), 0);
        (0..ENTRIES).for_each(|entry| pair.arm(entry));
        for _ in ENTRIES..1_000_000 {
            let entry = u32::try_from(pair.below(u64::from(ENTRIES))).unwrap();
            pair.step(entry);
            crowded += u64::from(pair.wheel.len() >= 100_000);
        }
        assert!(crowded >= 10_000 && pair.fired >= 100_000, "{crowded}, {}", pair.fired);
        pair.advance(pair.now + 21 * SPAN_TICKS * TICK_MICROS);
        assert!(pair.wheel.is_empty() && pair.armed.iter().all(Option::is_none));
        assert_eq!(pair.wheel.nodes.capacity(), room, "allocated after sizing");
    }
}
