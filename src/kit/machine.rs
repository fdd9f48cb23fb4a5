//! Floor 0. What every state machine here has: named states and a table of its legal arrows.
//!
//! A machine is an enum whose data lives in the variant that needs it. Its table is what
//! docs/STATES.md is drawn from; a test compares the two, and debug builds assert each transition.

/// An enum that moves only along [`Self::ARROWS`].
pub(crate) trait Machine: Sized {
    /// The machine's name, as docs/STATES.md heads its diagram.
    const NAME: &'static str;

    /// Each legal transition: from, to.
    const ARROWS: &'static [(&'static str, &'static str)];

    /// The variant's name.
    fn state(&self) -> &'static str;

    /// Moves to `next`, which must be one arrow away.
    fn go(&mut self, next: Self) {
        debug_assert!(
            Self::ARROWS.contains(&(self.state(), next.state())),
            "{}: no arrow from {} to {}",
            Self::NAME,
            self.state(),
            next.state()
        );
        *self = next;
    }
}
