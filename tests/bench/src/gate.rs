//! Steps in common with the origin: the same turns in each run, whatever else the machine does.
//!
//! Before a client waits it asks the origin to look at its sockets. The origin answers all
//! requests at once as soon as it has as many as agreed on, none before, and then says so. What
//! both say goes over two named pipes, with calls (`read`, `write`) that no client uses on a
//! socket, so that they can be told apart when system calls are counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

/// The client's end.
pub struct Gate {
    ask: File,
    told: File,
}

/// The origin's end.
pub struct Keeper {
    asked: File,
    tell: File,
}

impl Gate {
    /// Opens the pipes, which exist, in the order in which the other side does.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let ask = OpenOptions::new().write(true).open(folder.join("ask"))?;
        Ok(Self { ask, told: File::open(folder.join("told"))? })
    }

    /// How long the client may wait now: for ever, where the origin has answered. Where it has
    /// not, connections are still being opened, or bytes are on their way to it.
    pub fn step(&mut self) -> io::Result<Option<Duration>> {
        self.ask.write_all(&[1])?;
        let mut answer = [0];
        self.told.read_exact(&mut answer)?;
        Ok((answer[0] == 0).then_some(NOT_YET))
    }
}

impl Keeper {
    /// As [`Gate::open`].
    pub fn open(folder: &Path) -> io::Result<Self> {
        let asked = File::open(folder.join("ask"))?;
        Ok(Self { asked, tell: OpenOptions::new().write(true).open(folder.join("told"))? })
    }

    /// Sleeps until the client asks. False: it has gone.
    pub fn asked(&mut self) -> io::Result<bool> {
        Ok(self.asked.read(&mut [0])? == 1)
    }

    pub fn tell(&mut self, answered: bool) -> io::Result<()> {
        self.tell.write_all(&[u8::from(answered)])
    }
}

/// A client with nothing ready asks again after this.
const NOT_YET: Duration = Duration::from_millis(20);
