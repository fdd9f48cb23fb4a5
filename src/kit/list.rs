//! Floor 0. Doubly linked lists through an arena: O(1) to push, to pop and to take out of the
//! middle, without an allocation.
//!
//! A value carries one [`Links`] for each list that it can be in; the marker `L` tells two
//! kinds of list through the same value apart.

use std::marker::PhantomData;

use super::arena::{Arena, Key};

/// A value's neighbours in a list.
#[derive(Debug)]
pub(crate) struct Links<T> {
    before: Option<Key<T>>,
    after: Option<Key<T>>,
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self { before: None, after: None }
    }
}

/// A value that lists of kind `L` link through.
pub(crate) trait Linked<L>: Sized {
    /// Its links for lists of this kind.
    fn links(&mut self) -> &mut Links<Self>;
}

/// A list of values of one arena. Keys must be live, and in at most one list of a kind.
#[derive(Debug)]
pub(crate) struct List<T, L> {
    first: Option<Key<T>>,
    last: Option<Key<T>>,
    len: usize,
    kind: PhantomData<fn() -> L>,
}

impl<T, L> Default for List<T, L> {
    fn default() -> Self {
        Self { first: None, last: None, len: 0, kind: PhantomData }
    }
}

impl<T: Linked<L>, L> List<T, L> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn first(&self) -> Option<Key<T>> {
        self.first
    }

    pub(crate) fn last(&self) -> Option<Key<T>> {
        self.last
    }

    /// The neighbour of `key` towards the front.
    pub(crate) fn before(&self, arena: &mut Arena<T>, key: Key<T>) -> Option<Key<T>> {
        arena.get_mut(key)?.links().before
    }

    /// The neighbour of `key` towards the end.
    pub(crate) fn after(&self, arena: &mut Arena<T>, key: Key<T>) -> Option<Key<T>> {
        arena.get_mut(key)?.links().after
    }

    pub(crate) fn push_back(&mut self, arena: &mut Arena<T>, key: Key<T>) {
        self.link(arena, self.last, key, None);
    }

    pub(crate) fn push_front(&mut self, arena: &mut Arena<T>, key: Key<T>) {
        self.link(arena, None, key, self.first);
    }

    pub(crate) fn pop_front(&mut self, arena: &mut Arena<T>) -> Option<Key<T>> {
        let key = self.first?;
        self.remove(arena, key);
        Some(key)
    }

    /// Takes `key` out, which must be in this list.
    pub(crate) fn remove(&mut self, arena: &mut Arena<T>, key: Key<T>) {
        let Some(value) = arena.get_mut(key) else {
            debug_assert!(false, "a value leaves its lists before its arena");
            return;
        };
        let Links { before, after } = std::mem::take(value.links());
        self.set_after(arena, before, after);
        self.set_before(arena, after, before);
        self.len -= 1;
    }

    fn link(
        &mut self,
        arena: &mut Arena<T>,
        before: Option<Key<T>>,
        key: Key<T>,
        after: Option<Key<T>>,
    ) {
        let Some(value) = arena.get_mut(key) else {
            debug_assert!(false, "only live values are listed");
            return;
        };
        *value.links() = Links { before, after };
        self.set_after(arena, before, Some(key));
        self.set_before(arena, after, Some(key));
        self.len += 1;
    }

    fn set_after(&mut self, arena: &mut Arena<T>, of: Option<Key<T>>, to: Option<Key<T>>) {
        match of.and_then(|key| arena.get_mut(key)) {
            Some(value) => value.links().after = to,
            None => self.first = to,
        }
    }

    fn set_before(&mut self, arena: &mut Arena<T>, of: Option<Key<T>>, to: Option<Key<T>>) {
        match of.and_then(|key| arena.get_mut(key)) {
            Some(value) => value.links().before = to,
            None => self.last = to,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Item(Links<Self>);
    struct Only;

    impl Linked<Only> for Item {
        fn links(&mut self) -> &mut Links<Self> {
            &mut self.0
        }
    }

    #[test]
    fn behaves_as_a_deque_with_removal() {
        let mut arena: Arena<Item> = Arena::with_capacity(0);
        let mut list = List::<Item, Only>::default();
        let mut model = VecDeque::new();
        let mut seed = 1_u64;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = (seed >> 33) as usize;
            match draw % 5 {
                0 | 1 => {
                    let key = arena.insert(Item(Links::default())).ok().unwrap();
                    list.push_back(&mut arena, key);
                    model.push_back(key);
                }
                2 => {
                    let key = arena.insert(Item(Links::default())).ok().unwrap();
                    list.push_front(&mut arena, key);
                    model.push_front(key);
                }
                3 => {
                    assert_eq!(list.pop_front(&mut arena), model.pop_front());
                }
                _ if !model.is_empty() => {
                    let key = model.remove(draw / 5 % model.len()).unwrap();
                    list.remove(&mut arena, key);
                }
                _ => {}
            }
            assert_eq!(list.len(), model.len());
            assert_eq!(list.first(), model.front().copied());
            assert_eq!(list.last(), model.back().copied());
        }
        while let Some(key) = model.pop_front() {
            assert_eq!(list.pop_front(&mut arena), Some(key));
        }
        assert!(list.is_empty());
    }
}
