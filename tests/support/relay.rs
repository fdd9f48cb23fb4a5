//! Somebody between a client and an origin, who changes what passes or cuts it off.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Where bytes are on their way to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Towards {
    Client,
    Origin,
}

/// A listener whose connections lead to another address. Dropping it ends them.
pub(crate) struct Relay {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// Is given each piece that passes: its direction, how many bytes passed that way before it, and
/// the bytes to change. How many of them to pass on is the answer; where that is not all of them,
/// the direction ends there.
pub(crate) trait Meddle:
    Fn(Towards, usize, &mut [u8]) -> usize + Send + Sync + 'static
{
}

impl<F: Fn(Towards, usize, &mut [u8]) -> usize + Send + Sync + 'static> Meddle for F {}

impl Relay {
    /// `meddle` makes, for each connection (numbered from 0), what meddles with it.
    pub(crate) fn start<M: Meddle>(
        to: SocketAddr,
        meddle: impl Fn(usize) -> M + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&is_stopped);
        let acceptor = thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let origin = TcpStream::connect(to).unwrap();
                join(&client.unwrap(), &origin, &meddle(number));
            }
        });
        Self { address, is_stopped, acceptor: Some(acceptor) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // The acceptor wakes for a connection, and sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let ended = acceptor.join();
            assert!(ended.is_ok() || thread::panicking(), "the relay panicked");
        }
    }
}

/// Passes bytes both ways until both have ended. Connections are had one after the other.
fn join(client: &TcpStream, origin: &TcpStream, meddle: &impl Meddle) {
    for socket in [client, origin] {
        socket.set_nodelay(true).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| pass(client, origin, Towards::Origin, meddle));
        pass(origin, client, Towards::Client, meddle);
    });
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, towards: Towards, meddle: &impl Meddle) {
    let (mut passed, mut is_over) = (0, false);
    let mut piece = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        // What follows the end is read and dropped: closing with it unread would be a reset.
        if is_over {
            continue;
        }
        let piece = &mut piece[..count];
        let kept = meddle(towards, passed, piece);
        passed += count;
        is_over = to.write_all(&piece[..kept]).is_err() || kept < count;
        if is_over {
            let _ = to.shutdown(Shutdown::Write);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
