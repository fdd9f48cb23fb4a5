//! Interrupts: a flag for the loop, and a pipe that wakes the poll it sleeps in.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use super::INTERRUPT_EXIT;

/// The first SIGINT or SIGTERM sets a flag and wakes the poll; the second ends the process where it
/// stands.
#[derive(Debug)]
pub(crate) struct Interrupt {
    received: Arc<AtomicBool>,
    pipe: mio::net::UnixStream,
}

impl Interrupt {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        let status = i32::from(INTERRUPT_EXIT);
        let (ours, handlers) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, status, Arc::clone(&received))?;
            flag::register(signal, Arc::clone(&received))?;
            pipe::register(signal, handlers.try_clone()?)?;
        }
        let mut pipe = mio::net::UnixStream::from_std(ours);
        registry.register(&mut pipe, token, Interest::READABLE)?;
        Ok(Self { received, pipe })
    }

    /// Whether the run is to stop.
    pub(crate) fn was_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// The poll is edge-triggered: what was written would be told of only once more.
    pub(crate) fn drain(&mut self) {
        let mut bytes = [0; 16];
        while self.pipe.read(&mut bytes).is_ok_and(|read| read > 0) {}
    }
}
