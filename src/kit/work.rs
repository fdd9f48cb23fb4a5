//! Floor 0. How much codecs do: the bytes that they look at or copy, counted in tests.
//!
//! Seconds differ from machine to machine; a count does not. Outside tests nothing is counted.

/// Counts `bytes` looked at, or copied.
#[cfg(not(test))]
#[inline]
pub(crate) fn count(_bytes: usize) {}

#[cfg(test)]
pub(crate) fn count(bytes: usize) {
    COUNTED.set(COUNTED.get() + bytes);
}

/// What was counted on this thread in the meantime.
#[cfg(test)]
pub(crate) fn counted(work: impl FnOnce()) -> usize {
    let before = COUNTED.get();
    work();
    COUNTED.get() - before
}

#[cfg(test)]
std::thread_local! {
    static COUNTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
