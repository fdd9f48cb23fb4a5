//! The corpus of responses: what is sent, to which method, and what must come of it.
//!
//! In go the files of `http/`, whose format README.md describes; out come [`Entry`]s. A file that
//! is not in the format is a panic that names the line.

/// One response.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Unique among all.
    pub(crate) name: String,
    /// The section that says what must come of it.
    pub(crate) by: String,
    pub(crate) method: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Accepted(Accepted),
    /// The name of what is wrong.
    Refused(String),
    /// The stream ends first.
    Truncated,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Accepted {
    pub(crate) status: u16,
    /// Why the connection is closed; none where it is kept.
    pub(crate) closed: Option<String>,
    /// Bytes behind the message.
    pub(crate) left: usize,
    pub(crate) body: Vec<u8>,
    /// Some of the head's fields, as `name: value` and LF each.
    pub(crate) fields: Vec<u8>,
    /// All trailer fields in the same form.
    pub(crate) trailers: Vec<u8>,
}

impl Entry {
    /// Whether the end of the stream is that of the body.
    pub(crate) fn is_until_close(&self) -> bool {
        let Outcome::Accepted(accepted) = &self.outcome else { return false };
        accepted.closed.as_deref() == Some("BodyUntilClose")
    }

    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            by: String::new(),
            method: String::new(),
            bytes: Vec::new(),
            outcome: Outcome::Truncated,
        }
    }

    /// One line of a file about this entry; nothing if it is not in the format.
    fn take(&mut self, said: &str) -> Option<()> {
        let (key, value) = said.split_once(' ')?;
        let (key, times) = key.split_once('*').unwrap_or((key, "1"));
        let piece = || Some(unescaped(value)?.repeat(times.parse().ok()?));
        match (key, &mut self.outcome) {
            ("by", _) => value.clone_into(&mut self.by),
            ("to", _) => value.clone_into(&mut self.method),
            (">", _) => self.bytes.extend(piece()?),
            ("=", outcome) => *outcome = outcome_of(value)?,
            ("body", Outcome::Accepted(accepted)) => accepted.body.extend(piece()?),
            ("field", Outcome::Accepted(accepted)) => accepted.fields.extend(piece()?),
            ("trailer", Outcome::Accepted(accepted)) => accepted.trailers.extend(piece()?),
            _ => return None,
        }
        Some(())
    }

    /// How many bytes at the end are not the message's.
    pub(crate) fn left(&self) -> usize {
        if let Outcome::Accepted(accepted) = &self.outcome { accepted.left } else { 0 }
    }
}

/// All entries, in the order of the files.
pub(crate) fn entries() -> Vec<Entry> {
    FILES.iter().flat_map(|(file, text)| read(file, text)).collect()
}

fn read(file: &str, text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(said) = line.strip_prefix("  ") else {
            entries.push(Entry::new(line));
            continue;
        };
        let taken = entries.last_mut().and_then(|entry| entry.take(said));
        assert!(taken.is_some(), "{file}:{}: {line}", nth + 1);
    }
    entries
}

fn outcome_of(text: &str) -> Option<Outcome> {
    if text == "truncated" {
        return Some(Outcome::Truncated);
    }
    let (first, rest) = text.split_once(' ')?;
    if first == "refused" {
        return Some(Outcome::Refused(rest.to_owned()));
    }
    let status = first.parse().ok()?;
    let accepted = Accepted { status, ..Accepted::default() };
    let Some(closed) = rest.strip_prefix("closed ") else {
        return (rest == "kept").then_some(Outcome::Accepted(accepted));
    };
    let (reason, left) = closed.split_once(", ").unwrap_or((closed, "0 left"));
    let left = left.strip_suffix(" left")?.parse().ok()?;
    Some(Outcome::Accepted(Accepted { closed: Some(reason.to_owned()), left, ..accepted }))
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            b' '..=b'~' => byte,
            _ => return None,
        });
    }
    Some(bytes)
}

const FILES: [(&str, &str); 11] = [
    ("status_lines.txt", include_str!("http/status_lines.txt")),
    ("fields.txt", include_str!("http/fields.txt")),
    ("lengths.txt", include_str!("http/lengths.txt")),
    ("codings.txt", include_str!("http/codings.txt")),
    ("chunks.txt", include_str!("http/chunks.txt")),
    ("trailers.txt", include_str!("http/trailers.txt")),
    ("interim.txt", include_str!("http/interim.txt")),
    ("no_body.txt", include_str!("http/no_body.txt")),
    ("connections.txt", include_str!("http/connections.txt")),
    ("cut_short.txt", include_str!("http/cut_short.txt")),
    ("long.txt", include_str!("http/long.txt")),
];
