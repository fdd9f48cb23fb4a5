//! Plain data. What a request may say: which methods, and which header fields.
//!
//! In go the caller's bytes; out comes the value as it is sent, or a [`Refused`] that names what
//! is wrong and where. What passes here cannot end a line, so the encoder copies it as it is.
//! A value is never repeated in a refusal: it may be a secret.

use std::fmt;

/// Why a method or a header cannot be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    MethodEmpty,
    /// A byte that no token has (RFC 9110 §5.6.2).
    MethodByte {
        at: usize,
        byte: u8,
    },
    /// `CONNECT` makes a tunnel, which is no answer to fetch (RFC 9110 §9.3.6).
    MethodConnect,
    NameEmpty,
    NameByte {
        /// As far as it is a name: a value may have been given with it.
        name: String,
        at: usize,
        byte: u8,
    },
    ValueByte {
        name: String,
        at: usize,
        byte: u8,
    },
    /// A field that decides framing or routing: it is written here and nowhere else.
    Ours {
        name: &'static str,
        because: &'static str,
    },
    /// A field that must come before the body.
    Trailer {
        name: String,
    },
    /// A field that is taken with a few values only.
    Value {
        name: &'static str,
        allowed: &'static str,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MethodEmpty => write!(f, "the method is empty"),
            Self::MethodByte { at, byte } => {
                write!(f, "byte 0x{byte:02x} at offset {at} of the method")
            }
            Self::MethodConnect => write!(f, "the method CONNECT asks for a tunnel"),
            Self::NameEmpty => write!(f, "a header has no name"),
            Self::NameByte { name, at, byte } => {
                write!(f, "byte 0x{byte:02x} at offset {at} of a header name, behind \"{name}\"")
            }
            Self::ValueByte { name, at, byte } => {
                write!(f, "byte 0x{byte:02x} at offset {at} of the value of header {name}")
            }
            Self::Ours { name, because } => {
                write!(f, "header {name} cannot be given: {because}")
            }
            Self::Trailer { name } => write!(f, "header {name} cannot be a trailer"),
            Self::Value { name, allowed } => write!(f, "header {name} can only be {allowed}"),
        }
    }
}

impl std::error::Error for Refused {}

/// Any token but `CONNECT`. Case matters (RFC 9110 §9.1): `get` is a method of its own.
pub(crate) fn check_method(method: &str) -> Result<(), Refused> {
    match method.bytes().enumerate().find(|&(_, byte)| !is_token(byte)) {
        Some((at, byte)) => Err(Refused::MethodByte { at, byte }),
        None if method.is_empty() => Err(Refused::MethodEmpty),
        None if method == "CONNECT" => Err(Refused::MethodConnect),
        None => Ok(()),
    }
}

/// The value as it is sent: without white space around it, which is no part of a value
/// (RFC 9110 §5.5). Any other control byte is refused wherever it stands, a line end first of all.
pub(crate) fn check_header<'a>(name: &[u8], value: &'a [u8]) -> Result<&'a [u8], Refused> {
    if name.is_empty() {
        return Err(Refused::NameEmpty);
    }
    if let Some((at, byte)) = first(name, |byte| !is_token(byte)) {
        let name = shown(name.get(..at).unwrap_or_default());
        return Err(Refused::NameByte { name, at, byte });
    }
    if let Some((at, byte)) = first(value, |byte| !is_value(byte)) {
        return Err(Refused::ValueByte { name: shown(name), at, byte });
    }
    let value = value.trim_ascii();
    check_reserved(name, value)?;
    Ok(value)
}

/// The same for a trailer field. What frames, routes, authenticates or describes the message must
/// come before the body (RFC 9110 §6.5.1).
pub(crate) fn check_trailer<'a>(name: &[u8], value: &'a [u8]) -> Result<&'a [u8], Refused> {
    let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    if is_secret(name) || NOT_IN_TRAILERS.iter().any(is) {
        return Err(Refused::Trailer { name: shown(name) });
    }
    check_header(name, value)
}

/// One or more protocols to ask for, by which a server may go on (RFC 9110 §7.8): names, each with
/// a version or without.
pub(crate) fn check_protocols(list: &[u8]) -> Result<(), Refused> {
    let is_word = |word: &[u8]| !word.is_empty() && word.iter().all(|&byte| is_token(byte));
    let mut protocols = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let is_list = protocols.all(|protocol| protocol.splitn(2, |&byte| byte == b'/').all(is_word));
    let wrong = Refused::Value { name: "Upgrade", allowed: "a name, or NAME/VERSION" };
    is_list.then_some(()).ok_or(wrong)
}

/// Whether all protocols that a 101 names, one at least, are among those that were asked for
/// (RFC 9110 §7.8). Names are compared without case.
pub(crate) fn is_asked_for<'a>(asked: &[u8], named: impl Iterator<Item = &'a [u8]>) -> bool {
    let is_asked =
        |protocol: &[u8]| elements(asked).any(|asked| asked.eq_ignore_ascii_case(protocol));
    let mut named = named.flat_map(elements).peekable();
    named.peek().is_some() && named.all(is_asked)
}

/// The elements of a comma-separated list, without empty ones (RFC 9110 §5.6.1.2).
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether a value of this name authenticates somebody: it is never printed unasked.
pub(crate) fn is_secret(name: &[u8]) -> bool {
    SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

/// Whether a header of the caller's ends the connection after this exchange.
pub(crate) fn asks_close(name: &[u8], value: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"connection") && value.trim_ascii().eq_ignore_ascii_case(b"close")
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Visible characters, SP, HTAB and obs-text (RFC 9110 §5.5).
fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The fields that say how a message is framed, where it goes, or how long its connection lives.
fn check_reserved(name: &[u8], value: &[u8]) -> Result<(), Refused> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    let among = |list: &[&str]| list.iter().any(|v| value.eq_ignore_ascii_case(v.as_bytes()));
    match name.len() {
        2 if is("te") && !among(&["trailers"]) => {
            // RFC 9110 §10.1.4: any other value invites transfer codings that are not decoded.
            Err(Refused::Value { name: "TE", allowed: "trailers" })
        }
        4 if is("host") => {
            Err(Refused::Ours { name: "Host", because: "it is written from the URL" })
        }
        6 if is("expect") => Err(Refused::Ours {
            name: "Expect",
            because: "it is sent where `expect_continue` asks for it",
        }),
        7 if is("upgrade") => Err(Refused::Ours {
            name: "Upgrade",
            because: "it is sent where `upgrade` asks for it",
        }),
        10 if is("connection") && !among(&["close", "keep-alive"]) => {
            // RFC 9110 §7.6.1: other options name fields of this one hop, and those are ours.
            Err(Refused::Value { name: "Connection", allowed: "close or keep-alive" })
        }
        14 if is("content-length") => {
            Err(Refused::Ours { name: "Content-Length", because: "it is counted from the body" })
        }
        17 if is("transfer-encoding") => Err(Refused::Ours {
            name: "Transfer-Encoding",
            because: "it is sent where a body's length is not known",
        }),
        _ => Ok(()),
    }
}

fn first(bytes: &[u8], wrong: impl Fn(u8) -> bool) -> Option<(usize, u8)> {
    bytes.iter().copied().enumerate().find(|&(_, byte)| wrong(byte))
}

/// The name as it can be printed on one line.
fn shown(name: &[u8]) -> String {
    name.get(..NAME_SHOWN_BYTES_MAX).unwrap_or(name).escape_ascii().to_string()
}

const SECRETS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

const NOT_IN_TRAILERS: [&str; 14] = [
    "cache-control",
    "connection",
    "content-encoding",
    "content-range",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "range",
    "te",
    "trailer",
];

/// How much of a refused name is repeated.
const NAME_SHOWN_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_tokens_and_make_no_tunnel() {
        for method in ["GET", "get", "M-SEARCH", "PROPFIND", "!#$%&'*+-.^_`|~09"] {
            assert_eq!(check_method(method), Ok(()), "{method}");
        }
        assert_eq!(check_method(""), Err(Refused::MethodEmpty));
        assert_eq!(check_method("CONNECT"), Err(Refused::MethodConnect));
        assert_eq!(check_method("GE T"), Err(Refused::MethodByte { at: 2, byte: b' ' }));
        assert_eq!(check_method("GÉT"), Err(Refused::MethodByte { at: 1, byte: 0xc3 }));
        assert_eq!(check_method("GET\r\n"), Err(Refused::MethodByte { at: 3, byte: b'\r' }));
    }

    #[test]
    fn each_byte_of_a_value_is_sent_or_refused_by_its_offset() {
        for byte in 0..=u8::MAX {
            let value = [b'a', byte, b'b'];
            let good = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            let refused = Refused::ValueByte { name: "X-A".to_owned(), at: 1, byte };
            let expected = if good { Ok(&value[..]) } else { Err(refused) };
            assert_eq!(check_header(b"X-A", &value), expected);
        }
    }

    #[test]
    fn each_byte_of_a_name_is_a_token_or_refused() {
        for byte in 0..=u8::MAX {
            let name = [b'a', byte];
            assert_eq!(check_header(&name, b"v").is_ok(), is_token(byte), "{byte}");
        }
        assert_eq!(check_header(b"", b"v"), Err(Refused::NameEmpty));
        assert!(!is_token(b':') && !is_token(b' ') && !is_token(b'"') && !is_token(0x80));
    }

    #[test]
    fn white_space_around_a_value_is_dropped_and_a_line_end_is_not() {
        assert_eq!(check_header(b"A", b" \t v w\t "), Ok(&b"v w"[..]));
        assert_eq!(check_header(b"A", b" \t"), Ok(&b""[..]));
        assert!(check_header(b"A", b"v\n").is_err());
        assert!(check_header(b"A", b"\r\nv").is_err());
    }

    #[test]
    fn what_frames_routes_or_upgrades_is_ours() {
        for name in ["Host", "HOST", "content-length", "Transfer-Encoding", "upgrade"] {
            let refused = check_header(name.as_bytes(), b"5");
            assert!(matches!(refused, Err(Refused::Ours { .. })), "{name}");
        }
        assert_eq!(check_header(b"Connection", b" Close "), Ok(&b"Close"[..]));
        assert_eq!(check_header(b"connection", b"keep-alive"), Ok(&b"keep-alive"[..]));
        assert!(check_header(b"Connection", b"close, upgrade").is_err());
        assert!(check_header(b"Connection", b"").is_err());
        assert!(check_header(b"TE", b"trailers").is_ok());
        assert!(check_header(b"te", b"gzip").is_err());
        assert!(check_header(b"Hosts", b"x").is_ok());
    }

    #[test]
    fn only_connection_close_asks_to_close() {
        assert!(asks_close(b"CONNECTION", b" close"));
        assert!(!asks_close(b"Connection", b"keep-alive"));
        assert!(!asks_close(b"Connexion", b"close"));
    }

    #[test]
    fn a_refusal_names_the_place_on_one_line_and_keeps_the_value_to_itself() {
        let told = check_header(b"X-Token", b"secret\r\nA: b").unwrap_err().to_string();
        assert_eq!(told, "byte 0x0d at offset 6 of the value of header X-Token");
        let told = check_header(b"A\nB", b"").unwrap_err().to_string();
        assert_eq!(told, "byte 0x0a at offset 1 of a header name, behind \"A\"");
        let told = check_header(b"Host", b"").unwrap_err().to_string();
        assert_eq!(told, "header Host cannot be given: it is written from the URL");
        let told = check_header(&[b'\n'; 1000], b"").unwrap_err().to_string();
        assert!(told.len() < 200 && !told.contains('\n'));
    }
}
