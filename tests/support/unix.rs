//! A socket in the file system that leads to an origin.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Whoever connects to its path talks with the origin. Dropping it ends its connections and its
/// path.
pub(crate) struct Door {
    path: PathBuf,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_stopped: AtomicBool,
    opened: AtomicUsize,
    sockets: Mutex<Vec<UnixStream>>,
}

impl Door {
    pub(crate) fn to(origin: SocketAddr) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("door-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, origin, &mine));
        Self { path, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Connections so far.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        for socket in &*self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // The acceptor wakes for a connection, and sees that it is over.
        let _ = UnixStream::connect(&self.path);
        let _ = self.acceptor.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, origin: SocketAddr, shared: &Shared) {
    for near in listener.incoming() {
        if shared.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = near else { continue };
        shared.opened.fetch_add(1, Ordering::SeqCst);
        let far = TcpStream::connect(origin).unwrap();
        shared.sockets.lock().unwrap().push(near.try_clone().unwrap());
        let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
        thread::spawn(move || {
            let (mut from, mut to) = (&near, &far);
            let _ = io::copy(&mut from, &mut to);
            let _ = far.shutdown(Shutdown::Write);
        });
        thread::spawn(move || {
            let (mut from, mut to) = (&back.0, &back.1);
            let _ = io::copy(&mut from, &mut to);
            let _ = back.1.shutdown(Shutdown::Write);
        });
    }
}
