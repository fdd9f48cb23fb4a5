//! Floor 2. One name being looked up: who waits for it, and who is asked.

use std::sync::Arc;

use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::net::Token;
use crate::wire::dns::lookup::Lookup;

/// One name being looked up.
pub(super) struct Job<W> {
    pub(super) name: Arc<str>,
    /// In the order they came.
    pub(super) waiters: Vec<W>,
    pub(super) stage: Stage,
    /// When the timer that counts fires.
    pub(super) due: Moment,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Too many others have sockets open.
    Queued,
    /// Asked by us. `retry`: when to try again to open a socket, if there was none to be had.
    Asking { lookup: Box<Lookup>, sockets: [Option<Token>; 2], retry: Moment },
    /// Asked by the system.
    System,
}

impl<W> Job<W> {
    /// When something is to be done for it.
    pub(super) fn deadline(&self) -> Moment {
        match &self.stage {
            Stage::Asking { lookup, retry, .. } => lookup.next_deadline().min(*retry),
            Stage::Queued | Stage::System => Moment::NEVER,
        }
    }
}

impl Machine for Stage {
    const NAME: &'static str = "Name lookup";
    const ARROWS: &'static [(&'static str, &'static str)] =
        &[("Queued", "Asking"), ("Queued", "System")];

    fn state(&self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Asking { .. } => "Asking",
            Self::System => "System",
        }
    }
}
