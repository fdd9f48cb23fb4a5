//! The jobs, one after another, as they are asked for.
//!
//! Arguments, a file or standard input, or the demo's own. Input is read in pieces when the one
//! before was used up: nothing is read whole, and an endless input is fine. Each job has a
//! number, counted from 1, and where it came from lines, its line's.

use std::io;
use std::path::Path;

use mio::{Registry, Token};

use super::jobs::{Defaults, Job};
use super::lines::{Line, Lines};
use super::stdio::Inlet;

/// A job with its number.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) n: u64,
    pub(crate) line: Option<u64>,
    pub(crate) job: Job,
}

/// What asking for a job gives.
#[derive(Debug)]
pub(crate) enum Next {
    /// One.
    Item(Item),
    /// None yet: a good deal of input was passed over, and there is more.
    Busy,
    /// None yet: the poll will tell.
    Blocked,
    /// There are no more.
    End,
}

/// Where jobs come from.
pub(crate) struct Source {
    way: Way,
    defaults: Defaults,
    made: u64,
}

enum Way {
    Urls(std::vec::IntoIter<String>),
    Lines(Box<Input>),
    Made(Box<dyn Iterator<Item = Job>>),
}

/// How a line is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Urls,
    Jobs,
}

struct Input {
    name: String,
    inlet: Inlet,
    format: Format,
    lines: Lines,
    piece: Box<[u8]>,
    blocked: bool,
    ended: bool,
}

impl Source {
    /// These URLs.
    pub(crate) fn of_urls(urls: Vec<String>, defaults: Defaults) -> Self {
        Self::new(Way::Urls(urls.into_iter()), defaults)
    }

    /// Jobs that are made by the program.
    pub(crate) fn of_jobs(jobs: Box<dyn Iterator<Item = Job>>) -> Self {
        Self::new(Way::Made(jobs), Defaults::default())
    }

    /// The lines of `path`, or of standard input for `-`.
    pub(crate) fn of_lines(
        path: &Path,
        format: Format,
        defaults: Defaults,
        (registry, token): (&Registry, Token),
    ) -> io::Result<Self> {
        let input = Input {
            name: name_of(path),
            inlet: Inlet::open(path, registry, token)?,
            format,
            lines: Lines::new(LINE_BYTES_MAX),
            piece: vec![0; PIECE_BYTES].into(),
            blocked: false,
            ended: false,
        };
        Ok(Self::new(Way::Lines(Box::new(input)), defaults))
    }

    fn new(way: Way, defaults: Defaults) -> Self {
        Self { way, defaults, made: 0 }
    }

    /// The next job. An error is one of reading, and the end.
    pub(crate) fn next(&mut self, registry: &Registry) -> Result<Next, String> {
        let (line, job) = match &mut self.way {
            Way::Urls(urls) => match urls.next() {
                Some(url) => (None, Job::from_url(&url, &self.defaults)),
                None => return Ok(Next::End),
            },
            Way::Made(jobs) => match jobs.next() {
                Some(job) => (None, job),
                None => return Ok(Next::End),
            },
            Way::Lines(input) => match input.next(&self.defaults, registry)? {
                Found::Job(line, job) => (Some(line), job),
                Found::Nothing(next) => return Ok(next),
            },
        };
        self.made += 1;
        Ok(Next::Item(Item { n: self.made, line, job }))
    }

    /// Whether it waits for the poll to tell of more input.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(&self.way, Way::Lines(input) if input.blocked)
    }

    /// The poll tells of more input.
    pub(crate) fn set_ready(&mut self) {
        if let Way::Lines(input) = &mut self.way {
            input.blocked = false;
            input.inlet.set_ready();
        }
    }

    /// Whether jobs come through standard input.
    pub(crate) fn is_typed(&self) -> bool {
        self.name() == STDIN_NAME
    }

    /// How many jobs there will be, where that is known.
    pub(crate) fn expected(&self) -> Option<u64> {
        match &self.way {
            Way::Urls(urls) => Some(self.made + urls.len() as u64),
            Way::Made(jobs) => jobs.size_hint().1.map(|left| self.made + left as u64),
            Way::Lines(_) => None,
        }
    }

    /// Where lines come from, in words.
    pub(crate) fn name(&self) -> &str {
        match &self.way {
            Way::Lines(input) => &input.name,
            Way::Urls(_) | Way::Made(_) => "",
        }
    }
}

/// What a look for the next line gives.
enum Found {
    Job(u64, Job),
    Nothing(Next),
}

impl Input {
    fn next(&mut self, defaults: &Defaults, registry: &Registry) -> Result<Found, String> {
        if self.blocked {
            return Ok(Found::Nothing(Next::Blocked));
        }
        for _ in 0..PIECES_MAX {
            while let Some((number, line)) = self.lines.next_line() {
                if let Some(job) = job_of(&line, self.format, defaults) {
                    return Ok(Found::Job(number, job));
                }
            }
            if self.ended {
                return Ok(Found::Nothing(Next::End));
            }
            match self.inlet.read(&mut self.piece, registry) {
                Ok(0) => {
                    self.ended = true;
                    self.lines.receive_end();
                }
                Ok(read) => self.lines.receive(&self.piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(Found::Nothing(Next::Blocked));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
        }
        Ok(Found::Nothing(Next::Busy))
    }
}

/// `None` for what is blank or a comment.
fn job_of(line: &Line<'_>, format: Format, defaults: &Defaults) -> Option<Job> {
    let text = match line {
        Line::Text(text) => text.trim_ascii(),
        Line::TooLong => {
            let message = format!("longer than {} MiB", LINE_BYTES_MAX >> 20);
            return Some(Job::unfit(None, None, message));
        }
    };
    if text.is_empty() {
        return None;
    }
    match format {
        Format::Jobs => Some(Job::from_line(text, defaults)),
        Format::Urls if text.starts_with(b"#") => None,
        Format::Urls => Some(match std::str::from_utf8(text) {
            Ok(url) => Job::from_url(url, defaults),
            Err(_) => Job::unfit(None, None, "not UTF-8".to_owned()),
        }),
    }
}

/// How messages name a file.
pub(crate) fn name_of(path: &Path) -> String {
    if path == Path::new("-") { STDIN_NAME.to_owned() } else { path.display().to_string() }
}

pub(crate) const STDIN_NAME: &str = "standard input";
/// Most bytes of a line: room for a job's body.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes read at once: what a pipe holds.
const PIECE_BYTES: usize = 64 << 10;
/// Most pieces read in search of one job.
const PIECES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], format: Format) -> Vec<Item> {
        let poll = mio::Poll::new().unwrap();
        let path =
            std::env::temp_dir().join(format!("fetch-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        let to = (poll.registry(), Token(0));
        let mut source = Source::of_lines(&path, format, Defaults::default(), to).unwrap();
        let mut items = Vec::new();
        loop {
            match source.next(poll.registry()).unwrap() {
                Next::Item(item) => items.push(item),
                Next::Busy => {}
                Next::Blocked => panic!("a regular file does not block"),
                Next::End => break,
            }
        }
        std::fs::remove_file(&path).unwrap();
        items
    }

    #[test]
    fn comments_and_blank_lines_are_no_jobs_but_count_as_lines() {
        let items = all(b"# head\n\nhttp://a/\n  \n\xff\n nonsense \r\nhttp://b/", Format::Urls);
        let lines: Vec<_> = items.iter().map(|item| (item.n, item.line.unwrap())).collect();
        assert_eq!(lines, [(1, 3), (2, 5), (3, 6), (4, 7)]);
        let failed: Vec<_> = items.iter().map(|item| item.job.request.is_err()).collect();
        assert_eq!(failed, [false, true, true, false]);
        assert_eq!(items[2].job.url.as_deref(), Some("nonsense"));
    }

    #[test]
    fn a_bad_line_is_a_job_of_its_own() {
        let items = all(b"{\"url\":\"http://a/\"}\n{\n{\"url\":\"http://b/\"}\n", Format::Jobs);
        let failed: Vec<_> = items.iter().map(|item| item.job.request.is_err()).collect();
        assert_eq!(failed, [false, true, false]);
    }

    #[test]
    fn a_line_beyond_the_bound_does_not_end_the_input() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\nhttp://a/\n");
        let items = all(&text, Format::Urls);
        assert_eq!(items.len(), 2);
        assert!(items[0].job.request.as_ref().unwrap_err().message.contains("16 MiB"));
        assert!(items[1].job.request.is_ok());
    }
}
