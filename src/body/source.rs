//! Plain data. Where the pieces of a body come from that is not sent as one.
//!
//! In go places in the body and room for what is there; out come bytes, until there are none.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where the pieces come from. Clones share it.
#[derive(Clone)]
pub(crate) enum Source {
    /// From the caller, who is told when there is room.
    Pushed {
        replays: bool,
    },
    Pieces(Arc<[Piece]>),
    /// Whoever takes it first.
    Reader(Arc<Mutex<Option<Reader>>>),
}

/// What can be read once, and then says what follows it.
pub(crate) type Reader = Box<dyn Trailing>;

pub(crate) trait Trailing: Read + Send {
    /// Its trailer fields, asked for at its end.
    fn trailers(self: Box<Self>) -> Vec<(String, String)>;
}

/// A reader, and what makes its trailer fields of it.
struct Trailed<R, F> {
    reader: R,
    trailers: F,
}

impl<R: Read, F> Read for Trailed<R, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

impl<R, F> Trailing for Trailed<R, F>
where
    R: Read + Send,
    F: FnOnce(R) -> Vec<(String, String)> + Send,
{
    fn trailers(self: Box<Self>) -> Vec<(String, String)> {
        let Self { reader, trailers } = *self;
        trailers(reader)
    }
}

/// A part of a body whose length is known.
pub(crate) enum Piece {
    Bytes(Box<[u8]>),
    File { file: Mutex<Positioned>, length: u64 },
}

/// A file, and where its cursor is.
pub(crate) struct Positioned {
    file: File,
    at: u64,
}

impl Source {
    /// A file, and the length that it has now. What is no regular file has none, and can be read
    /// once.
    pub(crate) fn open(path: &Path) -> io::Result<(Option<u64>, Self)> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            let piece = Piece::file(file, metadata.len());
            return Ok((Some(metadata.len()), Self::Pieces(vec![piece].into())));
        }
        Ok((None, Self::reader(file)))
    }

    pub(crate) fn reader(reader: impl Read + Send + 'static) -> Self {
        Self::reader_with_trailers(reader, |_| Vec::new())
    }

    pub(crate) fn reader_with_trailers<R, F>(reader: R, trailers: F) -> Self
    where
        R: Read + Send + 'static,
        F: FnOnce(R) -> Vec<(String, String)> + Send + 'static,
    {
        let reader: Reader = Box::new(Trailed { reader, trailers });
        Self::Reader(Arc::new(Mutex::new(Some(reader))))
    }

    /// Reads what is at `at` of a body that is not pushed. 0: its end. A reader is taken at first,
    /// into `reader`, and is at `at` already.
    pub(crate) fn read(
        &self,
        reader: &mut Option<Reader>,
        at: u64,
        into: &mut [u8],
    ) -> io::Result<usize> {
        match self {
            Self::Pushed { .. } => Ok(0),
            Self::Pieces(pieces) => read_pieces(pieces, at, into),
            Self::Reader(shared) => {
                if reader.is_none() {
                    *reader = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
                }
                let Some(reader) = reader else {
                    let what = "the reader of this body was used by another request";
                    return Err(io::Error::other(what));
                };
                read_whole(reader, into)
            }
        }
    }
}

/// The piece that `at` is in, or behind it the next that is not empty.
fn read_pieces(pieces: &[Piece], mut at: u64, into: &mut [u8]) -> io::Result<usize> {
    for piece in pieces {
        if at < piece.length() {
            return piece.read(at, into);
        }
        at -= piece.length();
    }
    Ok(0)
}

/// As much as there is room for, unless the reader ends.
fn read_whole(reader: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Piece {
    /// A regular file of the length that it has now.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            return Ok(Self::file(file, metadata.len()));
        }
        let what = format!("{} is no regular file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }

    /// So much of a file.
    fn file(file: File, length: u64) -> Self {
        // Wherever the cursor is, nothing is there: the first reading puts it to its place.
        Self::File { file: Mutex::new(Positioned { file, at: u64::MAX }), length }
    }

    /// Bytes of it that are in memory.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { .. } => 0,
        }
    }

    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bytes(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
                let rest = rest.unwrap_or_default();
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Self::File { file, length } => {
                let most = usize::try_from(length - at).unwrap_or(usize::MAX).min(into.len());
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                if file.at != at {
                    file.file.seek(SeekFrom::Start(at))?;
                    file.at = at;
                }
                let count = read_whole(&mut file.file, &mut into[..most])?;
                file.at += count as u64;
                Ok(count)
            }
        }
    }
}

/// An iterator of chunks as a reader.
pub(crate) struct Chunks<I: Iterator> {
    chunks: I,
    current: Option<I::Item>,
    taken: usize,
}

impl<I: Iterator> Chunks<I> {
    pub(crate) fn new(chunks: I) -> Self {
        Self { chunks, current: None, taken: 0 }
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Read for Chunks<I> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let chunk = self.current.as_ref().map(AsRef::as_ref).unwrap_or_default();
            let rest = chunk.get(self.taken..).unwrap_or_default();
            if !rest.is_empty() {
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                self.taken += count;
                return Ok(count);
            }
            self.taken = 0;
            self.current = self.chunks.next();
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{Body, Payload};

    fn all(body: &Body, piece: usize) -> Vec<u8> {
        let Payload::Streamed { source, .. } = &body.0 else { return body.0.bytes().to_vec() };
        let (mut all, mut reader) = (Vec::new(), None);
        let mut into = vec![0; piece];
        loop {
            let count = source.read(&mut reader, all.len() as u64, &mut into).unwrap();
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&into[..count]);
        }
    }

    #[test]
    fn pieces_are_read_one_after_another_however_little_at_once() {
        let path = std::env::temp_dir().join(format!("whippet-pieces-{}", std::process::id()));
        std::fs::write(&path, b"file").unwrap();
        let file = || Piece::file(File::open(&path).unwrap(), 4);
        let bytes = |bytes: &[u8]| Piece::Bytes(bytes.into());
        let pieces = vec![bytes(b"a"), file(), bytes(b""), bytes(b"bc"), file()];
        let body = Body::of_pieces(pieces);
        assert_eq!(body.length(), Some(11));
        for piece in 1..12 {
            // Again and again: it can be.
            assert_eq!(all(&body, piece), b"afilebcfile", "{piece} at once");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_grew_is_sent_as_long_as_it_was() {
        let path = std::env::temp_dir().join(format!("whippet-grown-{}", std::process::id()));
        std::fs::write(&path, b"four").unwrap();
        let body = Body::file(&path).unwrap();
        std::fs::write(&path, b"four and more").unwrap();
        assert_eq!(all(&body, 100), b"four");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn chunks_come_in_their_order_and_once() {
        let body = Body::chunks(vec!["one", "", "two"]);
        assert_eq!(all(&body, 2), b"onetwo");
        let (source, is_streamed) = match &body.clone().0 {
            Payload::Streamed { source, .. } => (source.clone(), true),
            _ => (Source::Pushed { replays: false }, false),
        };
        let again = source.read(&mut None, 0, &mut [0; 4]);
        assert!(is_streamed && again.is_err(), "clones share one reader");
    }
}
