//! What an earlier run has left of a file: of which URL and version, and who may go on with it.
//!
//! In goes the path of a file; out comes a [`Claim`] to what is left of it, which one process has
//! at a time. What is left of `NAME` is `.NAME.fetch-part`. Beside it `.NAME.fetch-note` says of
//! which URL it is, and with which validator (RFC 9110 §8.8) the server gave it. No URL makes a
//! name that begins with a dot (`files`), so none comes to these. A claim is a lock on the note,
//! which the system takes back when the process ends, however it does. Where the note is not one
//! of these, or there is none, what has the part's name may be somebody else's and is not touched.
//! An empty note is one that its maker did not come to write.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::values::hex;

/// The right to write what is left of a file. It ends when it is dropped; what is left stays.
#[derive(Debug)]
pub(crate) struct Claim {
    places: Places,
    /// Locked.
    file: File,
    /// What it says; `None` for nothing yet.
    note: Option<Note>,
}

/// A beginning of one version of what a URL has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Left {
    pub(crate) note: Note,
    pub(crate) length: u64,
}

/// Of what the part is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    url: String,
    validator: String,
}

#[derive(Debug)]
struct Places {
    part: PathBuf,
    note: PathBuf,
}

impl Claim {
    /// Claims what is left of the file at `path`, or the place for it. An error: somebody else has
    /// it, or what is there was not made here.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let places = Places::of(path)?;
        let mut file = lock(&places.note)?;
        let note = Note::read(&mut file).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => not_ours(&places.note),
            _ => error,
        })?;
        let claim = Self { places, file, note };
        if claim.note.is_none() && fs::symlink_metadata(&claim.places.part).is_ok() {
            return Err(not_ours(&claim.places.part));
        }
        Ok(claim)
    }

    /// The same where something is left; `None`: nothing is, and nothing need be made.
    pub(crate) fn take_if_there(path: &Path) -> Option<io::Result<Self>> {
        let places = Places::of(path).ok()?;
        fs::symlink_metadata(&places.note).ok().map(|_| Self::take(path))
    }

    /// What there is to go on with.
    pub(crate) fn left(&self) -> Option<Left> {
        self.places.left(self.note.clone()?)
    }

    /// The part, to go on with.
    pub(crate) fn go_on(&self) -> io::Result<File> {
        let part = File::options().read(true).write(true).open(&self.places.part)?;
        if is_at(&part, &self.places.part) { Ok(part) } else { Err(not_ours(&self.places.part)) }
    }

    /// A new part in place of what is there. Whatever ends this run, the note never speaks of
    /// another part than the one beside it.
    pub(crate) fn begin(&mut self, note: Note) -> io::Result<File> {
        if let Err(error) = fs::remove_file(&self.places.part)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        self.note = None;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(note.to_text().as_bytes())?;
        self.note = Some(note);
        File::options().read(true).write(true).create_new(true).open(&self.places.part)
    }

    /// Where the part is.
    pub(crate) fn part(&self) -> &Path {
        &self.places.part
    }

    /// Removes what is left: the note last, which is what others wait for.
    pub(crate) fn forget(mut self) {
        // There may be none, and there is nobody left to tell; the name says that it is partial.
        let _ = fs::remove_file(&self.places.part);
        self.note = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.note.is_none() {
            // While it is locked, it is nobody else's.
            let _ = fs::remove_file(&self.places.note);
        }
    }
}

impl Left {
    /// What there is of the file at `path`, if that is certainly of this URL: as it is now, for
    /// nothing is claimed.
    pub(crate) fn find(path: &Path, url: &str) -> Option<Self> {
        let places = Places::of(path).ok()?;
        // Opening a pipe would not end.
        fs::symlink_metadata(&places.note).ok().filter(fs::Metadata::is_file)?;
        let note = Note::read(&mut File::open(&places.note).ok()?).ok()??;
        (note.url == url).then_some(note).and_then(|note| places.left(note))
    }

    pub(crate) fn validator(&self) -> &str {
        &self.note.validator
    }
}

impl Note {
    /// `None` where it would be longer than any that is read.
    pub(crate) fn new(url: &str, validator: String) -> Option<Self> {
        let note = Self { url: url.to_owned(), validator };
        (note.to_text().len() as u64 <= NOTE_BYTES_MAX).then_some(note)
    }

    /// `None` where there is nothing in it: its maker has not come to that. Data that is invalid:
    /// it is none.
    fn read(file: &mut File) -> io::Result<Option<Self>> {
        let mut text = String::new();
        file.take(NOTE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        let lines: Vec<&str> = text.split('\n').collect();
        match lines[..] {
            [TITLE, url, validator, ""] if text.len() as u64 <= NOTE_BYTES_MAX => {
                Ok(Some(Self { url: url.to_owned(), validator: validator.to_owned() }))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn to_text(&self) -> String {
        format!("{TITLE}\n{}\n{}\n", self.url, self.validator)
    }
}

impl Places {
    fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut stem = OsString::from(".");
        if name.len() <= STEM_BYTES_MAX {
            stem.push(name);
        } else {
            stem.push(hex(&Sha256::digest(name.as_encoded_bytes())));
        }
        let ending_in = |ending: &str| {
            let mut name = stem.clone();
            name.push(ending);
            path.with_file_name(name)
        };
        Ok(Self { part: ending_in(".fetch-part"), note: ending_in(".fetch-note") })
    }

    fn left(&self, note: Note) -> Option<Left> {
        let part = fs::symlink_metadata(&self.part).ok()?;
        (part.is_file() && part.len() > 0).then_some(Left { note, length: part.len() })
    }
}

/// Opens the note, or makes one, and locks it. A lock is on what was opened, which whoever had it
/// before may have removed since: then another has its name.
fn lock(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES_MAX {
        if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(not_ours(path));
        }
        let mut options = File::options();
        let file = match options.read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match options.create_new(true).open(path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    made => made?,
                }
            }
            opened => opened?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => break,
            locked => locked?,
        }
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(io::Error::other("another run is downloading it"))
}

/// Whether the path leads to the opened file, through no link.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

fn not_ours(path: &Path) -> io::Error {
    io::Error::other(format!("{} is in the way: nothing says that fetch made it", path.display()))
}

const TITLE: &str = "fetch: a part";
/// A URL and an entity tag, as long as they come.
const NOTE_BYTES_MAX: u64 = 1 << 20;
/// File systems take names of 255; a dot and the ending come to it.
const STEM_BYTES_MAX: usize = 240;
const TRIES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::part::tests::scratch;
    use super::*;

    fn note(url: &str) -> Note {
        Note::new(url, "\"tag\"".to_owned()).unwrap()
    }

    fn begun(path: &Path, text: &str) -> Claim {
        let mut claim = Claim::take(path).unwrap();
        claim.begin(note("http://a/x")).unwrap().write_all(text.as_bytes()).unwrap();
        claim
    }

    #[test]
    fn what_is_left_is_of_use_to_its_own_url_alone() {
        let directory = scratch("left");
        let path = directory.join("x");
        drop(begun(&path, "half"));
        let there = Some(Left { note: note("http://a/x"), length: 4 });
        assert_eq!(Left::find(&path, "http://a/x"), there);
        assert_eq!(Left::find(&path, "http://a/y"), None);
        assert_eq!(Left::find(&directory.join("y"), "http://a/x"), None);
        Claim::take(&path).unwrap().forget();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn one_has_it_at_a_time() {
        let directory = scratch("claims");
        let path = directory.join("x");
        let first = begun(&path, "half");
        let said = Claim::take(&path).unwrap_err().to_string();
        assert_eq!(said, "another run is downloading it");
        drop(first);
        let second = Claim::take(&path).unwrap();
        assert_eq!(second.left().map(|left| left.length), Some(4));
        second.forget();
        assert!(Claim::take(&path).unwrap().left().is_none());
        // A claim that nothing was done with leaves nothing.
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_somebody_else_has_there_is_not_touched() {
        let directory = scratch("others");
        let path = directory.join("x");
        let (part, its_note) = (directory.join(".x.fetch-part"), directory.join(".x.fetch-note"));
        fs::write(&part, "mine").unwrap();
        assert!(Claim::take(&path).unwrap_err().to_string().contains(".x.fetch-part"));
        assert!(!its_note.exists());
        for text in ["mine", "fetch: a part\nu\nv", "fetch: a part\nu\nv\nw\n", "\n"] {
            fs::write(&its_note, text).unwrap();
            assert!(Claim::take(&path).unwrap_err().to_string().contains(".x.fetch-note"));
            assert_eq!(Left::find(&path, "u"), None);
            assert_eq!(fs::read_to_string(&its_note).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(&part).unwrap(), "mine");
        // Links lead to what is somebody else's.
        fs::write(&its_note, note("http://a/x").to_text()).unwrap();
        let elsewhere = directory.join("elsewhere");
        fs::rename(&part, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &part).unwrap();
        assert_eq!(Left::find(&path, "http://a/x"), None);
        assert!(Claim::take(&path).unwrap().go_on().is_err());
        fs::rename(&part, &its_note).unwrap();
        assert!(Claim::take(&path).is_err());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_long_name_has_a_place_of_its_own() {
        let of = |name: String| Places::of(&Path::new("d").join(name)).unwrap().part;
        let (one, other) = (of("a".repeat(251)), of("a".repeat(250)));
        assert_ne!(one, other);
        for path in [one, other, of("a".repeat(STEM_BYTES_MAX))] {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with('.') && name.len() <= 255, "{name}");
            assert_eq!(path.parent(), Some(Path::new("d")));
        }
        assert!(Places::of(Path::new("..")).is_err());
    }
}
