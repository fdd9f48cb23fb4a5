//! Plain data. Logins by host, as `.netrc` has them: the format of ftp, which curl reads, too.
//!
//! In goes the file's text; out comes the login of a host. What cannot be read is told by its line
//! and not repeated: it may be a password.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use super::Userinfo;

/// Logins by host, as a `.netrc` file has them.
///
/// The words `machine`, `default`, `login`, `password`, `account` and `macdef` are known; a value
/// with white space in it stands between double quotes, in which `\"`, `\\`, `\n`, `\r` and `\t`
/// are one character. Where a host has several entries the first counts; `default` is for hosts
/// that have none.
///
/// ```
/// let netrc = whippet::Netrc::parse("machine a.example login me password hush").unwrap();
/// let mut settings = whippet::Settings::default();
/// settings.netrc = Some(netrc.into());
/// ```
#[derive(Clone, Default)]
pub struct Netrc {
    machines: Vec<(Box<str>, Userinfo)>,
    default: Option<Userinfo>,
}

/// Why a text is no such file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NetrcError {
    /// A word that is none of the format's.
    UnknownWord {
        /// Counted from 1.
        line: usize,
    },
    /// A word without what belongs to it.
    ValueMissing {
        /// Counted from 1.
        line: usize,
    },
    /// A quote that does not end on its line.
    QuoteOpen {
        /// Counted from 1.
        line: usize,
    },
}

impl fmt::Display for NetrcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord { line } => write!(f, "line {line}: a word that is not known"),
            Self::ValueMissing { line } => write!(f, "line {line}: a word without its value"),
            Self::QuoteOpen { line } => write!(f, "line {line}: a quote that does not end"),
        }
    }
}

impl std::error::Error for NetrcError {}

impl Netrc {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NetrcError> {
        let mut netrc = Self::default();
        let mut words = Words { text, chars: text.char_indices().peekable(), line: 1 };
        let mut entry: Option<Entry> = None;
        while let Some(word) = words.next_keyword()? {
            match &*word {
                "machine" | "default" => {
                    netrc.add(entry.take());
                    let host = if word == "machine" { Some(words.value()?) } else { None };
                    entry = Some(Entry { host, ..Entry::default() });
                }
                "login" => words.set(entry.as_mut().map(|entry| &mut entry.user))?,
                "password" => words.set(entry.as_mut().map(|entry| &mut entry.password))?,
                "account" => words.set(None)?,
                "macdef" => words.skip_macro(),
                _ => return Err(NetrcError::UnknownWord { line: words.line }),
            }
        }
        netrc.add(entry);
        Ok(netrc)
    }

    /// The entry of a host, which is compared without case.
    pub(crate) fn of_host(&self, host: &str) -> Option<&Userinfo> {
        let mut entries = self.machines.iter();
        entries.find(|(machine, _)| machine.eq_ignore_ascii_case(host)).map(|(_, login)| login)
    }

    /// The entry of hosts that have none of their own.
    pub(crate) fn of_any_other(&self) -> Option<&Userinfo> {
        self.default.as_ref()
    }

    fn add(&mut self, entry: Option<Entry>) {
        let Some(Entry { host, user, password }) = entry else { return };
        let login =
            Userinfo { user: user.into_bytes().into(), password: password.into_bytes().into() };
        match host {
            Some(host) => self.machines.push((host.into(), login)),
            None => drop(self.default.get_or_insert(login)),
        }
    }
}

/// How many there are.
impl fmt::Debug for Netrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netrc").field("machines", &self.machines.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Entry {
    /// None: any.
    host: Option<String>,
    user: String,
    password: String,
}

/// A text, word after word.
struct Words<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    line: usize,
}

impl Words<'_> {
    /// The next word that is not part of a comment.
    fn next_keyword(&mut self) -> Result<Option<String>, NetrcError> {
        loop {
            self.skip_space();
            match self.chars.peek() {
                None => return Ok(None),
                Some((_, '#')) => self.skip_line(),
                Some(_) => return self.word().map(Some),
            }
        }
    }

    fn value(&mut self) -> Result<String, NetrcError> {
        let line = self.line;
        self.skip_space();
        if self.chars.peek().is_none() {
            return Err(NetrcError::ValueMissing { line });
        }
        self.word()
    }

    /// Takes the next value; into nothing where there is no entry that it could be of.
    fn set(&mut self, place: Option<&mut String>) -> Result<(), NetrcError> {
        let value = self.value()?;
        if let Some(place) = place {
            *place = value;
        }
        Ok(())
    }

    fn word(&mut self) -> Result<String, NetrcError> {
        if self.chars.next_if(|(_, c)| *c == '"').is_some() {
            return self.quoted();
        }
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| !c.is_ascii_whitespace()) {
            word.push(c);
        }
        Ok(word)
    }

    fn quoted(&mut self) -> Result<String, NetrcError> {
        let mut word = String::new();
        let mut next = || self.chars.next_if(|(_, c)| *c != '\n').map(|(_, c)| c);
        let open = NetrcError::QuoteOpen { line: self.line };
        loop {
            match next().ok_or(open)? {
                '"' => return Ok(word),
                '\\' => word.push(match next().ok_or(open)? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                }),
                other => word.push(other),
            }
        }
    }

    fn skip_space(&mut self) {
        while let Some((_, c)) = self.chars.next_if(|(_, c)| c.is_ascii_whitespace()) {
            self.line += usize::from(c == '\n');
        }
    }

    fn skip_line(&mut self) {
        while self.chars.next_if(|(_, c)| *c != '\n').is_some() {}
    }

    /// A macro ends with an empty line.
    fn skip_macro(&mut self) {
        loop {
            self.skip_line();
            let Some((at, _)) = self.chars.next() else { return };
            self.line += 1;
            let rest = self.text.get(at + 1..).unwrap_or_default();
            if rest.starts_with('\n') || rest.starts_with("\r\n") {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str, host: &str) -> Option<(String, String)> {
        let netrc = Netrc::parse(text).unwrap();
        let login = netrc.of_host(host).or_else(|| netrc.of_any_other())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some((text(&login.user), text(&login.password)))
    }

    #[test]
    fn a_host_has_the_first_entry_of_its_name_or_the_default() {
        let text = "# comment\n\
            machine a.example\n\tlogin one password \"p \\\"w\\\\\\t\"\n\
            machine A.EXAMPLE login two password other\n\
            macdef init\ncd /pub\nmachine c.example login no password no\n\n\
            machine b.example password #hash account x login \u{e9}\n  # machine d.example\n\
            default login any password thing\n";
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(login(text, "a.example"), pair("one", "p \"w\\\t"));
        assert_eq!(login(text, "A.Example"), pair("one", "p \"w\\\t"));
        assert_eq!(login(text, "b.example"), pair("\u{e9}", "#hash"));
        for host in ["c.example", "d.example", "x.a.example", "example"] {
            assert_eq!(login(text, host), pair("any", "thing"), "{host}");
        }
        assert_eq!(login("machine a login b", "a"), pair("b", ""));
        assert_eq!(login("machine a machine b", "a"), pair("", ""));
        assert_eq!(login("login b password c", "a"), None);
        assert_eq!(login("macdef x\nmachine a login b", "a"), None);
        assert_eq!(login("", "a"), None);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_line_and_not_repeated() {
        for (text, error) in [
            ("machine a\nlogin b\ncanary c", NetrcError::UnknownWord { line: 3 }),
            ("machine a login b c", NetrcError::UnknownWord { line: 1 }),
            ("machine a\nlogin", NetrcError::ValueMissing { line: 2 }),
            ("machine", NetrcError::ValueMissing { line: 1 }),
            ("machine a\n\npassword \"canary", NetrcError::QuoteOpen { line: 3 }),
            ("machine a password \"canary\n\"", NetrcError::QuoteOpen { line: 1 }),
            ("machine a password \"canary\\", NetrcError::QuoteOpen { line: 1 }),
        ] {
            assert_eq!(Netrc::parse(text).unwrap_err(), error, "{text}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        let netrc = Netrc::parse("machine canary login canary password canary").unwrap();
        assert!(!format!("{netrc:?}").contains("canary"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_file_or_is_not(
            text in "(machine |default |login |macdef |\"|\\\\|#|\n|x){0,30}",
        ) {
            let _ = Netrc::parse(&text);
        }
    }
}
