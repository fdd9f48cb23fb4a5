//! Where bytes come from and go to: files, pipes and terminals, none of which may stop the loop.
//!
//! What the poll takes (pipes, sockets, terminals) is polled; what it does not (regular files,
//! /dev/null) is read and written directly, which waits for a disk at most.
//!
//! Standard input and output share their open file description with other processes: O_NONBLOCK
//! set on them would be set for the shell too. So on Linux a pipe or a terminal is opened anew
//! through /proc, which makes a description of our own. Where that cannot be (sockets, other
//! systems), one small piece is read or written for each time that the poll says it will not
//! block.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mio::unix::SourceFd;
use mio::unix::pipe::{Receiver, Sender};
use mio::{Interest, Registry, Token};

/// Where input is read.
#[derive(Debug)]
pub(crate) enum Inlet {
    /// Reading does not wait for anyone.
    Direct(File),
    /// Reading says `WouldBlock`, once; then the poll tells.
    NonBlocking(Receiver),
    /// One read for each time that the poll told.
    OneByOne { file: File, token: Token, ready: bool },
}

impl Inlet {
    /// `path`, or standard input for `-`.
    pub(crate) fn open(path: &Path, registry: &Registry, token: Token) -> io::Result<Self> {
        if path == Path::new("-") {
            let ours = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            return match anew(io::stdin().as_fd(), false) {
                Some(file) => Self::non_blocking(file, registry, token),
                None => Self::one_by_one(ours, registry, token),
            };
        }
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if file.metadata()?.is_file() {
            return Ok(Self::Direct(file));
        }
        Self::non_blocking(file, registry, token)
    }

    fn non_blocking(file: File, registry: &Registry, token: Token) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        if !is_taken(registry.register(&mut SourceFd(&fd), token, Interest::READABLE))? {
            return Ok(Self::Direct(file));
        }
        let receiver = Receiver::from(OwnedFd::from(file));
        receiver.set_nonblocking(true)?;
        Ok(Self::NonBlocking(receiver))
    }

    fn one_by_one(file: File, registry: &Registry, token: Token) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        if is_taken(registry.register(&mut SourceFd(&fd), token, Interest::READABLE))? {
            return Ok(Self::OneByOne { file, token, ready: false });
        }
        Ok(Self::Direct(file))
    }

    /// The poll says that there is something to read.
    pub(crate) fn set_ready(&mut self) {
        if let Self::OneByOne { ready, .. } = self {
            *ready = true;
        }
    }

    /// Reads, or says `WouldBlock`.
    pub(crate) fn read(&mut self, into: &mut [u8], registry: &Registry) -> io::Result<usize> {
        match self {
            Self::Direct(file) => file.read(into),
            Self::NonBlocking(receiver) => receiver.read(into),
            Self::OneByOne { ready: false, .. } => Err(io::ErrorKind::WouldBlock.into()),
            Self::OneByOne { file, token, ready } => {
                *ready = false;
                let read = file.read(into);
                rearm(registry, file, *token, Interest::READABLE)?;
                read
            }
        }
    }
}

/// Where output is written.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// Writing does not wait for anyone.
    Direct(File),
    /// Writing says `WouldBlock`, once; then the poll tells.
    NonBlocking(Sender),
    /// One small write for each time that the poll told.
    OneByOne { file: File, token: Token, ready: bool },
}

impl Outlet {
    /// Standard output.
    pub(crate) fn open(registry: &Registry, token: Token) -> io::Result<Self> {
        let ours = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let renewed = anew(io::stdout().as_fd(), true);
        let is_ours_alone = renewed.is_some();
        let file = renewed.unwrap_or(ours);
        let fd = file.as_raw_fd();
        if !is_taken(registry.register(&mut SourceFd(&fd), token, Interest::WRITABLE))? {
            return Ok(Self::Direct(file));
        }
        if !is_ours_alone {
            return Ok(Self::OneByOne { file, token, ready: false });
        }
        let sender = Sender::from(OwnedFd::from(file));
        sender.set_nonblocking(true)?;
        Ok(Self::NonBlocking(sender))
    }

    /// The poll says that there is room.
    pub(crate) fn set_ready(&mut self) {
        if let Self::OneByOne { ready, .. } = self {
            *ready = true;
        }
    }

    /// Writes what goes at once, or says `WouldBlock`.
    pub(crate) fn write(&mut self, bytes: &[u8], registry: &Registry) -> io::Result<usize> {
        match self {
            Self::Direct(file) => file.write(bytes),
            Self::NonBlocking(sender) => sender.write(bytes),
            Self::OneByOne { ready: false, .. } => Err(io::ErrorKind::WouldBlock.into()),
            Self::OneByOne { file, token, ready } => {
                *ready = false;
                let written = file.write(&bytes[..bytes.len().min(PIECE_BYTES)]);
                rearm(registry, file, *token, Interest::WRITABLE)?;
                written
            }
        }
    }
}

/// The pipe or terminal behind a descriptor, in an open file description of our own.
///
/// Only what the system names as an anonymous pipe or a pseudo-terminal is opened: a named FIFO
/// without a reader would keep the opening waiting.
#[cfg(target_os = "linux")]
fn anew(fd: BorrowedFd<'_>, write: bool) -> Option<File> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let target = std::fs::read_link(&link).ok()?;
    let target = target.to_str()?;
    if !target.starts_with("pipe:[") && !target.starts_with("/dev/pts/") {
        return None;
    }
    File::options().read(!write).write(write).open(&link).ok()
}

#[cfg(not(target_os = "linux"))]
fn anew(_fd: BorrowedFd<'_>, _write: bool) -> Option<File> {
    None
}

/// Whether the poll takes the descriptor. It refuses regular files with EPERM, and so do some
/// devices with EINVAL.
fn is_taken(registered: io::Result<()>) -> io::Result<bool> {
    match registered {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => Ok(false),
            _ => Err(error),
        },
    }
}

/// The poll is edge-triggered: registering again makes it tell once more where there is still
/// something to tell.
fn rearm(registry: &Registry, file: &File, token: Token, interest: Interest) -> io::Result<()> {
    registry.reregister(&mut SourceFd(&file.as_raw_fd()), token, interest)
}

/// What a pipe takes whole without blocking when it is writable at all (PIPE_BUF on Linux); a
/// socket or terminal that is writable takes it too.
const PIECE_BYTES: usize = 4_096;
