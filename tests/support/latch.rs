//! A door that opens once, and stays open.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Closed at first; [`Self::release`] opens it for everybody who waits or will wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn release(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_released(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is released. Panics after [`WAIT_SECONDS_MAX`], so that no test hangs.
    pub(crate) fn wait(&self) {
        let (open, opened) = &*self.0;
        let guard = open.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = opened
            .wait_timeout_while(guard, Duration::from_secs(WAIT_SECONDS_MAX), |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*guard, "a latch was not released in {WAIT_SECONDS_MAX} s");
    }
}

/// How long a test waits for what must happen before it is called a failure.
pub(crate) const WAIT_SECONDS_MAX: u64 = 60;
