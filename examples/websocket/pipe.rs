//! What tungstenite has in place of a socket: two buffers, one each way.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// An end of what is in memory: never blocks, and never ends.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// From the server, and not read yet.
    pub(crate) came: VecDeque<u8>,
    /// To the server, and not taken by the connection yet.
    pub(crate) said: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.came.read(into)? {
            // Nothing more is here now; an end there will be told of by the fetch.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.said.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
