//! Floor 0. Values under generational keys: a stale key misses, it never hits another's value.
//!
//! In goes a value, out comes a [`Key`]: a place in a slab and the generation that was put there.
//! Fetches, exchanges, connections and lookups hold each other's keys, never each other. This is
//! the only file that names `slab`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU64;

use slab::Slab;

/// The name of one value in an [`Arena`]: [`INDEX_BITS`] of place, [`GENERATION_BITS`] of
/// generation, and [`SPARE_BITS`] at the top that are always zero, for what a key is packed with.
///
/// It means something only to the arena that gave it; another arena of the same type may answer
/// it with a value of its own. Keys order as they were given, until the generations start over.
pub(crate) struct Key<T> {
    /// Never zero, because generations start at 1: an `Option<Key<T>>` takes eight bytes.
    bits: NonZeroU64,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The key as a number below 2^62.
    pub(crate) const fn to_bits(self) -> u64 {
        self.bits.get()
    }

    /// The key with these bits; none if no key can have them.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let possible = bits >> (u64::BITS - SPARE_BITS) == 0 && bits >> INDEX_BITS != 0;
        if possible { NonZeroU64::new(bits).map(Self::of_bits) } else { None }
    }

    /// The place of the value: below the highest number of values that the arena ever held.
    #[allow(clippy::cast_possible_truncation, reason = "24 bits fit in every usize")]
    pub(crate) const fn index(self) -> usize {
        (self.bits.get() & INDEX_MASK) as usize
    }

    const fn of_bits(bits: NonZeroU64) -> Self {
        Self { bits, of: PhantomData }
    }
}

// By hand, because derived impls would ask the same of `T`.
impl<T> Copy for Key<T> {}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl<T> Eq for Key<T> {}

impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits.cmp(&other.bits)
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, generation {})", self.index(), self.to_bits() >> INDEX_BITS)
    }
}

/// Values that are found by their [`Key`]s in constant time.
///
/// Every insertion has a generation of its own, counted for the arena as a whole. A key to a value
/// that is gone therefore misses, until 2^38 - 1 insertions later the generations start over: at a
/// million insertions a second, after three days of holding on to that one key.
///
/// Keys are of type `K`, by default the values' own; another stands in where the values' type is
/// generic and the keys are to be held by what is not.
#[derive(Debug)]
pub(crate) struct Arena<T, K = T> {
    slots: Slab<Slot<T>>,
    /// The generation of the next insertion: 1 to [`GENERATION_MAX`].
    generation: u64,
    keys: PhantomData<fn() -> K>,
}

/// The whole key lies beside the value, so that a look-up compares one word. It is never zero,
/// which is where the slab's own mark of a free place hides.
#[derive(Debug)]
struct Slot<T> {
    key: NonZeroU64,
    value: T,
}

impl<T, K> Arena<T, K> {
    /// An arena that allocates no more until it holds over `values` values.
    pub(crate) fn with_capacity(values: usize) -> Self {
        let slots = Slab::with_capacity(values.min(VALUES_MAX));
        Self { slots, generation: 1, keys: PhantomData }
    }

    /// Puts a value in; gives it back if [`VALUES_MAX`] are there already.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Result<Key<K>, T> {
        let place = self.slots.vacant_entry();
        let Some(key) = compose(self.generation, place.key()) else { return Err(value) };
        place.insert(Slot { key, value });
        self.generation = next_generation(self.generation);
        Ok(Key::of_bits(key))
    }

    /// Puts in what `make` makes of its own key. `None`: [`VALUES_MAX`] are there already.
    pub(crate) fn insert_with<E>(
        &mut self,
        make: impl FnOnce(Key<K>) -> Result<T, E>,
    ) -> Option<Result<Key<K>, E>> {
        let place = self.slots.vacant_entry();
        let key = compose(self.generation, place.key())?;
        let value = match make(Key::of_bits(key)) {
            Ok(value) => value,
            Err(error) => return Some(Err(error)),
        };
        place.insert(Slot { key, value });
        self.generation = next_generation(self.generation);
        Some(Ok(Key::of_bits(key)))
    }

    /// The value of this key, if it is still there.
    #[inline]
    pub(crate) fn get(&self, key: Key<K>) -> Option<&T> {
        match self.slots.get(key.index()) {
            Some(slot) if slot.key == key.bits => Some(&slot.value),
            _ => None,
        }
    }

    /// The value of this key, if it is still there, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<K>) -> Option<&mut T> {
        match self.slots.get_mut(key.index()) {
            Some(slot) if slot.key == key.bits => Some(&mut slot.value),
            _ => None,
        }
    }

    /// Takes the value of this key out, if it is still there.
    pub(crate) fn remove(&mut self, key: Key<K>) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        self.slots.try_remove(key.index()).map(|slot| slot.value)
    }

    /// Drops the value of this key, if it is still there.
    pub(crate) fn discard(&mut self, key: Key<K>) {
        if self.contains(key) {
            self.slots.try_remove(key.index());
        }
    }

    pub(crate) fn contains(&self, key: Key<K>) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Every value with its key, by place: the same order for the same history.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<K>, &T)> {
        self.slots.iter().map(|(_, slot)| (Key::of_bits(slot.key), &slot.value))
    }
}

fn next_generation(generation: u64) -> u64 {
    if generation == GENERATION_MAX { 1 } else { generation + 1 }
}

/// The bits of a key; none for a place that no key can name.
fn compose(generation: u64, index: usize) -> Option<NonZeroU64> {
    if index >= VALUES_MAX {
        return None;
    }
    NonZeroU64::new(generation << INDEX_BITS | index as u64)
}

/// How many bits of a key are the place.
const INDEX_BITS: u32 = 24;
/// How many bits of a key are the generation.
const GENERATION_BITS: u32 = 38;
/// How many bits at the top of a key are always zero.
const SPARE_BITS: u32 = u64::BITS - GENERATION_BITS - INDEX_BITS;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MAX: u64 = (1 << GENERATION_BITS) - 1;
/// How many values an arena holds at most. Callers bound themselves far below.
const VALUES_MAX: usize = 1 << INDEX_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_misses_when_its_place_is_taken_again() {
        let mut arena: Arena<&str> = Arena::with_capacity(2);
        let first = arena.insert("first").unwrap();
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second").unwrap();
        assert_eq!(first.index(), second.index());
        assert!(first < second);
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.get_mut(first), None);
        assert_eq!(arena.remove(first), None);
        assert!(!arena.contains(first));
        assert_eq!(arena.get(second), Some(&"second"));
    }

    #[test]
    fn values_are_found_changed_counted_and_listed() {
        let mut arena: Arena<i32> = Arena::with_capacity(0);
        let keys: Vec<_> = (0..100).map(|n| arena.insert(n).unwrap()).collect();
        for &key in keys.iter().step_by(2) {
            *arena.get_mut(key).unwrap() += 1000;
        }
        for &key in keys.iter().skip(1).step_by(2) {
            assert!(arena.remove(key).is_some());
        }
        assert_eq!(arena.len(), 50);
        assert!(arena.iter().all(|(key, value)| arena.get(key) == Some(value) && *value >= 1000));
        for &key in &keys {
            arena.remove(key);
        }
        assert!(arena.is_empty());
        assert_eq!(arena.iter().count(), 0);
    }

    #[test]
    fn a_key_survives_its_bits_and_no_other_bits_make_one() {
        let mut arena: Arena<u8> = Arena::with_capacity(1);
        let key = arena.insert(7_u8).unwrap();
        assert_eq!(key.to_bits(), 1 << INDEX_BITS);
        assert_eq!(Key::from_bits(key.to_bits()), Some(key));
        assert_eq!(size_of::<Option<Key<String>>>(), 8);
        assert_eq!(Key::<u8>::from_bits(0), None);
        assert_eq!(Key::<u8>::from_bits(INDEX_MASK), None);
        assert_eq!(Key::<u8>::from_bits(1 << 62 | 1 << INDEX_BITS), None);
        assert_eq!(Key::<u8>::from_bits(u64::MAX), None);
        assert!(Key::<u8>::from_bits((1 << 62) - 1).is_some());
        assert_eq!(format!("{key:?}"), "Key(0, generation 1)");
    }

    #[test]
    fn generations_start_over_at_one_and_leave_the_top_bits_alone() {
        let mut arena: Arena<char> = Arena::with_capacity(1);
        arena.generation = GENERATION_MAX;
        let last = arena.insert('a').unwrap();
        assert_eq!(last.to_bits() >> 62, 0);
        assert_eq!(Key::from_bits(last.to_bits()), Some(last));
        arena.remove(last);
        assert_eq!(arena.insert('b').unwrap().to_bits() >> INDEX_BITS, 1);
    }

    #[test]
    fn the_last_place_has_a_key_and_the_one_behind_it_has_none() {
        let last = compose(GENERATION_MAX, VALUES_MAX - 1).unwrap();
        assert_eq!(last.get(), (1 << 62) - 1);
        assert_eq!(compose(1, VALUES_MAX), None);
        assert_eq!(compose(1, usize::MAX), None);
    }
}
