//! A file while it is written, under a temporary name: what a run leaves of it when it fails, and
//! how a later run goes on with that.
//!
//! In go a path, heads and pieces of a body; out comes a whole file of that name, or none. With
//! `--continue` what there is of it stays, where [`left`](super::left) says, for the next run that
//! wants the same version (RFC 9110 §8.8) of the same URL.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use httpdate::parse_http_date;
use sha2::{Digest, Sha256};
use whippet::url::Url;
use whippet::{Head, Request};

use super::left::{Claim, Left, Note};
use super::temporary;
use super::values::{Checksum, hex};

/// A file that is being written. Dropped before it is [kept](Self::keep), it leaves nothing, or
/// what a later run can go on with.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    state: State,
    /// How long the whole is, where a part says so.
    length: Option<u64>,
    /// What was written, and what it must come to.
    check: Option<(Sha256, Checksum)>,
}

/// What it is called until it is whole.
#[derive(Debug)]
enum State {
    /// As it will be: it was kept, or cannot be renamed over, as /dev/null.
    Named,
    /// By a name of this run's own.
    Temporary(PathBuf),
    /// What may stay for a later run.
    Claimed(Claim),
}

/// Where a body is to go with `--continue`, and what an earlier run left of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    path: PathBuf,
    /// Without user information.
    url: String,
    left: Option<Left>,
}

impl Part {
    /// A file of its own, whatever was left of another.
    pub(crate) fn new(path: &Path, n: u64, checksum: Option<Checksum>) -> io::Result<Self> {
        let (file, state) = match special(path)? {
            Some(file) => (file, State::Named),
            None => {
                make_parent(path)?;
                let (file, name) = temporary::create(path, &n.to_string(), &mut File::options())?;
                (file, State::Temporary(name))
            }
        };
        Ok(Self { file, path: path.to_owned(), state, length: None, check: check(checksum) })
    }

    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<(), String> {
        if let Some((hash, _)) = &mut self.check {
            hash.update(chunk);
        }
        self.file.write_all(chunk).map_err(|error| self.explain(&error))
    }

    /// Gives it its final name, if it is what it must be. One of which more is to come stays for a
    /// later run; one that is another than it must be is of no use to it.
    pub(crate) fn keep(mut self) -> Result<(), String> {
        self.check_length().map_err(|error| self.explain(&error))?;
        if let Some((hash, checksum)) = self.check.take() {
            let is = hash.finalize();
            if is[..] != checksum {
                self.forget();
                let path = self.path.display();
                return Err(format!("{path}: its SHA-256 is {}, not {}", hex(&is), hex(&checksum)));
            }
        }
        match &self.state {
            State::Named => return Ok(()),
            State::Temporary(name) => fs::rename(name, &self.path),
            State::Claimed(claim) => fs::rename(claim.part(), &self.path),
        }
        .map_err(|error| self.explain(&error))?;
        self.forget();
        Ok(())
    }

    fn check_length(&self) -> io::Result<()> {
        let Some(length) = self.length else { return Ok(()) };
        let there = self.file.metadata()?.len();
        if there == length {
            return Ok(());
        }
        Err(io::Error::other(format!("{there} of {length} bytes are there, and no more came")))
    }

    /// Removes what is left of it under another name than its own.
    fn forget(&mut self) {
        match mem::replace(&mut self.state, State::Named) {
            State::Named => {}
            // There is nobody left to tell; the name says that it is partial.
            State::Temporary(name) => drop(fs::remove_file(name)),
            State::Claimed(claim) => claim.forget(),
        }
    }

    fn explain(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let has_some = self.file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if !has_some || !matches!(self.state, State::Claimed(_)) {
            self.forget();
        }
    }
}

impl Target {
    /// Looks for what is left of a file that `url` was to fill.
    pub(crate) fn new(path: PathBuf, url: &str) -> Self {
        let url = Url::parse(url).map_or_else(|_| String::new(), without_userinfo);
        let left = Left::find(&path, &url);
        Self { path, url, left }
    }

    /// A GET, of the rest where the beginning is there: not coded, so that its bytes can be counted.
    pub(crate) fn ask(&self, mut request: Request) -> Result<Request, whippet::Error> {
        if request.header_value("accept-encoding").is_none() {
            request = request.header("Accept-Encoding", "identity")?;
        }
        if let Some(left) = &self.left {
            request = request.header("Range", format!("bytes={}-", left.length))?;
            request = request.header("If-Range", left.validator())?;
        }
        Ok(request)
    }

    /// What is left is of no use: the server says that there is no such rest, or gives what cannot
    /// be gone on with. What another run has in hand stays.
    pub(crate) fn forget(&self) {
        if let Some(Ok(claim)) = Claim::take_if_there(&self.path) {
            claim.forget();
        }
    }

    /// Opens the file for the body behind `head`: at its end where that is the rest, else anew.
    pub(crate) fn begin(
        &self,
        head: &Head<'_>,
        n: u64,
        checksum: Option<Checksum>,
    ) -> Result<Part, String> {
        self.open(head, n, checksum).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn open(&self, head: &Head<'_>, n: u64, checksum: Option<Checksum>) -> io::Result<Part> {
        if head.status().as_u16() == 206 {
            return self.go_on(head, checksum);
        }
        let validator = validator(head).filter(|_| head.removed_codings().count() == 0);
        match validator.and_then(|validator| Note::new(&self.url, validator)) {
            Some(note) if special(&self.path)?.is_none() => self.begin_anew(note, checksum),
            _ => {
                self.forget();
                Part::new(&self.path, n, checksum)
            }
        }
    }

    fn begin_anew(&self, note: Note, checksum: Option<Checksum>) -> io::Result<Part> {
        make_parent(&self.path)?;
        let mut claim = Claim::take(&self.path)?;
        // The note before the first byte: whatever ends this run, the next one knows what is there.
        let file = claim.begin(note)?;
        Ok(self.part(file, claim, None, check(checksum)))
    }

    /// The rest must be of the version that the beginning is of (RFC 9110 §15.3.7), and begin where
    /// that ends; and nobody may have gone on with it since it was asked for.
    fn go_on(&self, head: &Head<'_>, checksum: Option<Checksum>) -> io::Result<Part> {
        let fits = |left: &&Left| !is_of_another(head, left.validator());
        let asked_for = self.left.as_ref().filter(fits).zip(range(head));
        let Some((left, (first, length))) =
            asked_for.filter(|(left, (first, _))| *first == left.length)
        else {
            return Err(io::Error::other("the server sent another part than asked for"));
        };
        let claim = Claim::take(&self.path)?;
        if claim.left().as_ref() != Some(left) {
            return Err(io::Error::other("another run has changed what was left of it"));
        }
        let mut file = claim.go_on()?;
        let mut check = check(checksum);
        if let Some((hash, _)) = &mut check {
            hash_all(&mut file, hash)?;
        }
        file.seek(SeekFrom::Start(first))?;
        Ok(self.part(file, claim, Some(length), check))
    }

    fn part(
        &self,
        file: File,
        claim: Claim,
        length: Option<u64>,
        check: Option<(Sha256, Checksum)>,
    ) -> Part {
        Part { file, path: self.path.clone(), state: State::Claimed(claim), length, check }
    }
}

/// What tells this representation from any other (RFC 9110 §13.1.5): a strong entity tag, or a
/// date that is old enough not to be that of two (§8.8.2.2). A server that takes no ranges has
/// none.
fn validator(head: &Head<'_>) -> Option<String> {
    let text = |name: &str| head.header(name).and_then(|value| std::str::from_utf8(value).ok());
    if text("accept-ranges").is_some_and(|accepts| accepts.eq_ignore_ascii_case("none")) {
        return None;
    }
    if let Some(tag) = text("etag") {
        return tag.starts_with('"').then(|| tag.to_owned());
    }
    let modified = text("last-modified")?;
    let (changed, sent) = (parse_http_date(modified).ok()?, parse_http_date(text("date")?).ok()?);
    let is_strong = sent.duration_since(changed).is_ok_and(|age| age >= DATE_STRONG_AFTER);
    is_strong.then(|| modified.to_owned())
}

/// Whether a part says that it is of another version than this one.
fn is_of_another(head: &Head<'_>, validator: &str) -> bool {
    let name = if validator.starts_with('"') { "etag" } else { "last-modified" };
    head.header(name).is_some_and(|value| value != validator.as_bytes())
}

/// The first byte of `bytes FIRST-LAST/LENGTH` (RFC 9110 §14.4), and the length of the whole.
fn range(head: &Head<'_>) -> Option<(u64, u64)> {
    let range = std::str::from_utf8(head.header("content-range")?).ok()?;
    let (unit, range) = range.split_once(' ')?;
    let (bounds, length) = range.split_once('/')?;
    let (first, _) = bounds.split_once('-')?;
    let whole = first.parse().ok().zip(length.parse().ok());
    whole.filter(|_| unit.eq_ignore_ascii_case("bytes"))
}

fn check(checksum: Option<Checksum>) -> Option<(Sha256, Checksum)> {
    checksum.map(|checksum| (Sha256::new(), checksum))
}

fn hash_all(file: &mut File, hash: &mut Sha256) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            count => hash.update(&piece[..count]),
        }
    }
}

/// An opened file that is there and no regular one, as /dev/null.
fn special(path: &Path) -> io::Result<Option<File>> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => File::options().write(true).open(path).map(Some),
        _ => Ok(None),
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

fn without_userinfo(mut url: Url) -> String {
    // Both fail only for URLs without a host, which have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url.into()
}

const PIECE_BYTES: usize = 64 << 10;
/// RFC 9110 §8.8.2.2.
const DATE_STRONG_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An empty directory.
    pub(crate) fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fetch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_partial_file_never_bears_the_final_name() {
        let directory = scratch("parts");
        let path = directory.join("sub/x");
        let mut part = Part::new(&path, 1, None).unwrap();
        part.write(b"half").unwrap();
        assert!(!path.exists());
        drop(part);
        assert_eq!(fs::read_dir(directory.join("sub")).unwrap().count(), 0);
        let mut part = Part::new(&path, 1, None).unwrap();
        part.write(b"whole").unwrap();
        part.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(Part::new(&directory, 1, None).is_err());
        let mut null = Part::new(Path::new("/dev/null"), 1, None).unwrap();
        null.write(b"x").unwrap();
        null.keep().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_that_is_not_what_it_must_be_is_not_kept() {
        let directory = scratch("check");
        let path = directory.join("x");
        let checksum = Sha256::digest(b"whole").into();
        for (text, is_kept) in [("whole", true), ("other", false)] {
            let mut part = Part::new(&path, 1, Some(checksum)).unwrap();
            part.write(text.as_bytes()).unwrap();
            assert_eq!(part.keep().is_ok(), is_kept);
            assert_eq!(fs::read_dir(&directory).unwrap().count(), usize::from(is_kept));
            let _ = fs::remove_file(&path);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
