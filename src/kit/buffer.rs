//! Floor 0. The pool of carry buffers.
//!
//! Everything is read into one shared buffer. Only what is left over, a head cut in two, a partial
//! TLS record, the body of a paused fetch, and a collected body of which nobody knows how long it
//! will be, moves into a [`Carry`] that [`Buffers`] lends until the rest has come. Whoever is idle
//! owns none.

use std::fmt;

use super::work;

/// A queue of bytes: filled at the end, consumed from the front.
///
/// Reading never moves a byte. Space in front is won back when the end has no room and at least as
/// much was consumed as is unread: a byte moves at most once for each byte that was consumed, and
/// a queue that lives long stays within a small multiple of the most it ever held.
#[derive(Default)]
pub(crate) struct Carry {
    bytes: Vec<u8>,
    /// Where the unread bytes begin; never beyond the end.
    start: usize,
}

impl Carry {
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn unread_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// How many bytes are unread.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a copy.
    fn extend(&mut self, more: &[u8]) {
        let room = self.bytes.capacity() - self.bytes.len();
        if more.len() > room && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
            work::count(self.bytes.len());
        }
        work::count(more.len());
        self.bytes.extend_from_slice(more);
    }

    /// Drops `n` bytes from the front, or all where there are fewer.
    fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n);
        if self.start >= self.bytes.len() {
            self.clear();
        }
    }

    /// Drops every byte and keeps the memory.
    fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

/// How much there is, not what: it may be anybody's secret.
impl fmt::Debug for Carry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carry({} bytes)", self.len())
    }
}

/// The pool. It allocates only while the buffers it lends grow.
///
/// Whoever may need one has a place for it, which is empty while nothing waits there.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Empty, with memory of at least a byte each and [`FREE_BYTES_MAX`] in all.
    free: Vec<Carry>,
    free_bytes: usize,
    lent: usize,
    /// Unread, in all that are lent.
    held_bytes: usize,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        let free = Vec::with_capacity(FREE_BUFFERS_MAX);
        Self { free, free_bytes: 0, lent: 0, held_bytes: 0 }
    }

    /// Appends a copy of `bytes` to the buffer in `place`, which is lent one where it has none.
    pub(crate) fn fill(&mut self, place: &mut Option<Carry>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let carry = place.get_or_insert_with(|| {
            self.lent += 1;
            let carry = self.free.pop().unwrap_or_default();
            self.free_bytes -= carry.bytes.capacity();
            carry
        });
        carry.extend(bytes);
        self.held_bytes += bytes.len();
    }

    /// Drops `n` bytes from the front, or all where there are fewer. A buffer that is empty then
    /// comes home.
    pub(crate) fn consume(&mut self, place: &mut Option<Carry>, n: usize) {
        let Some(carry) = place else { return };
        self.held_bytes -= n.min(carry.len());
        carry.consume(n);
        if carry.is_empty() {
            self.take_home(place);
        }
    }

    /// Takes a buffer home, whatever is left in it. Where it is one too many, or too much memory
    /// would lie idle, it is freed.
    pub(crate) fn take_home(&mut self, place: &mut Option<Carry>) {
        let Some(mut carry) = place.take() else { return };
        self.lent -= 1;
        self.held_bytes -= carry.len();
        carry.clear();
        let memory = carry.bytes.capacity();
        let fits = self.free.len() < FREE_BUFFERS_MAX && memory <= FREE_BYTES_MAX - self.free_bytes;
        if memory > 0 && fits {
            self.free_bytes += memory;
            self.free.push(carry);
        }
    }

    /// How many buffers are away.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// How many bytes wait in them.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// How many free buffers are kept.
const FREE_BUFFERS_MAX: usize = 64;
/// How much memory lies idle in them.
const FREE_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut carry = Carry::default();
        carry.extend(b"hello ");
        carry.extend(b"world");
        carry.consume(2);
        assert_eq!(carry.unread(), b"llo world");
        carry.unread_mut()[0] = b'L';
        assert_eq!((carry.unread(), carry.len()), (&b"Llo world"[..], 9));
        carry.consume(usize::MAX);
        assert!(carry.is_empty());
        carry.extend(b"!");
        assert_eq!(carry.unread(), b"!");
        carry.consume(0);
        assert_eq!(carry.unread(), b"!");
        carry.clear();
        assert_eq!(carry.unread(), b"");
        assert_eq!(format!("{carry:?}"), "Carry(0 bytes)");
    }

    #[test]
    fn a_long_lived_queue_matches_its_model_and_stays_small() {
        let mut carry = Carry::default();
        let mut model = std::collections::VecDeque::new();
        let mut seed = 7_u64;
        for round in 0..20_000_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = usize::try_from(seed >> 57).unwrap();
            if model.len() + n <= 1_000 {
                let more = vec![u8::try_from(round % 251).unwrap(); n];
                carry.extend(&more);
                model.extend(more);
            } else {
                carry.consume(n);
                model.drain(..n.min(model.len()));
            }
            assert!(carry.unread().iter().eq(&model));
        }
        assert!(carry.bytes.capacity() <= 4_096, "{}", carry.bytes.capacity());
    }

    #[test]
    fn a_queue_that_is_never_empty_copies_each_byte_a_bounded_number_of_times() {
        let mut carry = Carry::default();
        carry.extend(&[0; 1_000]);
        let mut moves = 0;
        for _ in 0..100_000 {
            carry.consume(1);
            let before = carry.start;
            carry.extend(&[1]);
            moves += usize::from(carry.start < before) * carry.len();
        }
        assert!(moves <= 100_000, "{moves}");
        assert!(carry.bytes.capacity() <= 4_096);
    }

    #[test]
    fn a_buffer_that_comes_home_is_lent_again_empty_and_with_its_memory() {
        let mut buffers = Buffers::new();
        let (mut here, mut there) = (None, None);
        buffers.fill(&mut here, &[1; 500]);
        buffers.fill(&mut there, b"");
        assert!(there.is_none());
        buffers.consume(&mut here, 100);
        assert_eq!((buffers.lent(), buffers.held_bytes()), (1, 400));
        buffers.take_home(&mut here);
        assert!(here.is_none());
        assert_eq!((buffers.lent(), buffers.held_bytes()), (0, 0));
        buffers.fill(&mut there, b"x");
        assert!(there.as_ref().is_some_and(|carry| carry.bytes.capacity() >= 500));
        buffers.consume(&mut there, usize::MAX);
        assert!(there.is_none());
        assert_eq!((buffers.lent(), buffers.held_bytes()), (0, 0));
    }

    #[test]
    fn what_is_too_large_or_too_many_is_freed() {
        let mut buffers = Buffers::new();
        let mut large = None;
        let mut small = None;
        buffers.fill(&mut small, b"x");
        buffers.fill(&mut large, &vec![0; FREE_BYTES_MAX]);
        buffers.take_home(&mut small);
        buffers.take_home(&mut large);
        assert_eq!((buffers.free.len(), buffers.free_bytes < 1_024), (1, true));
        let mut away: Vec<Option<Carry>> = Vec::new();
        away.resize_with(FREE_BUFFERS_MAX + 10, || None);
        for place in &mut away {
            buffers.fill(place, b"x");
        }
        for place in &mut away {
            buffers.take_home(place);
        }
        assert_eq!((buffers.free.len(), buffers.lent()), (FREE_BUFFERS_MAX, 0));
    }
}
