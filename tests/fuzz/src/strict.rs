//! HTTP/1.1 messages read a second time, plainly and whole, for comparison.
//!
//! Written from RFC 9112 and the documented choices of the library. Taken in a response: empty lines
//! before a status line, LF for CR LF in a head, folded lines, white space before a colon, control
//! bytes in what is only text. Not taken: any of these in a field that says how long the body is.
//! A request is read by the letter. It shares no code with what it is compared to, and is allowed
//! to be slow.

/// What a stream of bytes begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Complete(Message),
    /// It may still become a message.
    Short,
    Bad,
}

/// Names and values, in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A final response, with the interim ones before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    /// How many bytes of the stream it takes.
    pub used: usize,
    /// The stream's end is its own.
    pub until_close: bool,
}

/// The response at the front of `stream`. `has_ended`: nothing follows the stream.
pub fn response(stream: &[u8], is_head: bool, has_ended: bool, head_bytes_max: usize) -> Outcome {
    let mut used = 0;
    for _ in 0..=INTERIM_RESPONSES_MAX {
        let rest = &stream[used..];
        let head = match read_head(rest, head_bytes_max) {
            Ok(Some(head)) => head,
            Ok(None) => return Outcome::Short,
            Err(Bad) => return Outcome::Bad,
        };
        used += head.length;
        if (100..200).contains(&head.status) && head.status != 101 {
            continue;
        }
        if head.status == 101 {
            return Outcome::Bad;
        }
        return read_body(&head, &stream[used..], used, is_head, has_ended);
    }
    Outcome::Bad
}

/// All messages of a connection, one behind the other, up to the first that is none.
pub fn responses(stream: &[u8], is_head: bool, has_ended: bool, head_max: usize) -> Vec<Message> {
    let (mut at, mut messages) = (0, Vec::new());
    while let Outcome::Complete(message) = response(&stream[at..], is_head, has_ended, head_max) {
        at += message.used;
        messages.push(message);
    }
    messages
}

/// The data of a chunked body, its trailers, and how many bytes it takes.
pub type Chunked = (Vec<u8>, Fields, usize);

/// A chunked body and its trailers.
pub fn chunked(stream: &[u8]) -> Result<Option<Chunked>, Bad> {
    let (mut at, mut data, mut extension_bytes) = (0, Vec::new(), 0);
    loop {
        let Some(line) = crlf_line(&stream[at..])? else { return Ok(None) };
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, rest) = line.split_at(digits);
        let extension = rest.trim_ascii_start();
        let is_spaced = rest.iter().take_while(|byte| is_blank(**byte)).count();
        let is_extension = rest.is_empty()
            || is_spaced == rest.len()
            || extension.len() + is_spaced == rest.len() && extension.starts_with(b";");
        extension_bytes += rest.len();
        if !(1..=16).contains(&digits)
            || !is_extension
            || rest.iter().any(|byte| is_control(*byte))
            || extension_bytes > SECTION_BYTES_MAX
        {
            return Err(Bad);
        }
        let size = size.iter().fold(0_u64, |size, digit| {
            size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or(0))
        });
        if size == 0 {
            let section = trailer_section(&stream[at..])?;
            return Ok(section.map(|(fields, length)| (data, fields, at + length)));
        }
        let size = usize::try_from(size).map_err(|_| Bad)?;
        let rest = &stream[at..];
        let Some(chunk) = rest.get(..size) else { return Ok(None) };
        match rest.get(size..size + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(Bad),
            None => return Ok(None),
        }
        data.extend_from_slice(chunk);
        at += size + 2;
    }
}

/// A request on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request at the front of `bytes`, by the letter of RFC 9112 §3 and §5, and what is
    /// behind it.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let mut at = 0;
        let mut next = || -> Result<&'a [u8], String> {
            let line = crlf_line(&bytes[at..]).ok().flatten().ok_or("a line does not end")?;
            at += line.len() + 2;
            Ok(line)
        };
        let line = next()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [method, target, version] = words[..] else { return Err("the request line".into()) };
        let is_visible = target.iter().all(|byte| (0x21..0x7f).contains(byte));
        if !is_token(method) || target.is_empty() || !is_visible || version != b"HTTP/1.1" {
            return Err("the request line".into());
        }
        let mut fields = Vec::new();
        loop {
            let line = next()?;
            if line.is_empty() {
                break;
            }
            fields.push(strict_field(line).map_err(|Bad| "a field")?);
        }
        let values = |name| values_of(&fields, name);
        let lengths: Vec<&[u8]> = values(b"content-length").collect();
        let length = match lengths[..] {
            [] => 0,
            [length] => std::str::from_utf8(length)
                .ok()
                .and_then(|length| length.parse::<usize>().ok())
                .ok_or("the length")?,
            _ => return Err("two lengths".into()),
        };
        if values(b"transfer-encoding").next().is_some() {
            return Err("a transfer coding".into());
        }
        let body = bytes.get(at..at + length).ok_or("the body is short")?;
        Ok((Self { method, target, fields, body }, &bytes[at + length..]))
    }

    /// The values of a field, in order.
    pub fn values<'b>(&'b self, name: &'b [u8]) -> impl Iterator<Item = &'a [u8]> + 'b {
        values_of(&self.fields, name)
    }
}

/// It is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bad;

struct Head {
    length: usize,
    status: u16,
    minor: u8,
    fields: Fields,
    lengths: Vec<Vec<u8>>,
    codings: Option<Vec<Vec<u8>>>,
}

fn read_head(stream: &[u8], bytes_max: usize) -> Result<Option<Head>, Bad> {
    let window = &stream[..stream.len().min(bytes_max)];
    let short = if stream.len() < bytes_max { Ok(None) } else { Err(Bad) };
    let (mut at, mut first, mut section) = (0, None, None);
    loop {
        let Some(end) = window[at..].iter().position(|byte| *byte == b'\n') else { return short };
        let line = &window[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += end + 1;
        match (first, section) {
            (None, _) if line.is_empty() => {}
            (None, _) => (first, section) = (Some(status_line(line)?), Some(at)),
            (Some((status, minor)), Some(start)) if line.is_empty() => {
                let fields = lenient_fields(&window[start..at], true)?;
                return describe(at, status, minor, fields).map(Some);
            }
            _ => {}
        }
    }
}

fn status_line(line: &[u8]) -> Result<(u16, u8), Bad> {
    let minor = match line.get(..9) {
        Some(b"HTTP/1.0 ") => 0,
        Some(b"HTTP/1.1 ") => 1,
        _ => return Err(Bad),
    };
    let digits = line.get(9..12).ok_or(Bad)?;
    let text = std::str::from_utf8(digits).map_err(|_| Bad)?;
    let has_digits = digits.iter().all(u8::is_ascii_digit);
    let status = text.parse().map_err(|_| Bad)?;
    let phrase = &line[12..];
    let is_phrase = phrase.is_empty() || phrase[0] == b' ';
    if !has_digits || status < 100 || !is_phrase || phrase.iter().any(|byte| is_never_text(*byte)) {
        return Err(Bad);
    }
    Ok((status, minor))
}

/// A field of a request.
fn strict_field(line: &[u8]) -> Result<(&[u8], &[u8]), Bad> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Bad)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) || value.iter().any(|byte| is_control(*byte)) {
        return Err(Bad);
    }
    Ok((name, trim(value)))
}

/// The fields of a response's section, blank line included. Line ends in a value become spaces.
fn lenient_fields(section: &[u8], is_head: bool) -> Result<Fields, Bad> {
    let mut fields: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for line in section.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").ok_or(Bad)?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            break;
        }
        if text.iter().any(|byte| is_never_text(*byte)) {
            return Err(Bad);
        }
        if is_blank(text[0]) {
            let (name, value) = fields.last_mut().ok_or(Bad)?;
            if is_head && says_length(name) {
                return Err(Bad);
            }
            value.extend_from_slice(line);
            continue;
        }
        let colon = text.iter().position(|byte| *byte == b':').ok_or(Bad)?;
        let name = trim_end(&text[..colon]);
        if !is_token(name) || is_head && says_length(name) && name.len() < colon {
            return Err(Bad);
        }
        fields.push((name, line[colon + 1..].to_vec()));
        if fields.len() > FIELDS_MAX {
            return Err(Bad);
        }
    }
    let unfolded = |(name, mut value): (&[u8], Vec<u8>)| {
        let is_end = |byte: &&mut u8| matches!(**byte, b'\r' | b'\n');
        value.iter_mut().filter(is_end).for_each(|byte| *byte = b' ');
        (name.to_vec(), trim(&value).to_vec())
    };
    Ok(fields.into_iter().map(unfolded).collect())
}

fn says_length(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding"].iter().any(|n| name.eq_ignore_ascii_case(n))
}

fn describe(length: usize, status: u16, minor: u8, fields: Fields) -> Result<Head, Bad> {
    let pairs: Vec<(&[u8], &[u8])> = fields.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    let values = |name| values_of(&pairs, name);
    let list = |name| values(name).flat_map(|value| value.split(|byte| *byte == b','));
    let lengths: Vec<Vec<u8>> = list(b"content-length").map(|value| trim(value).to_vec()).collect();
    let has_coding = values(b"transfer-encoding").next().is_some();
    let codings = has_coding.then(|| {
        list(b"transfer-encoding")
            .map(|value| trim(value).to_ascii_lowercase())
            .filter(|value| !value.is_empty())
            .collect()
    });
    let head = Head { length, status, minor, fields: fields.clone(), lengths, codings };
    // Doubtful framing is refused whether or not there is a body.
    announced(&head).map(|_| head)
}

enum Announced {
    Length(u64),
    Chunked,
    Nothing,
}

fn announced(head: &Head) -> Result<Announced, Bad> {
    let mut lengths = Vec::new();
    for text in &head.lengths {
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        lengths.push(number.filter(|_| is_number).ok_or(Bad)?);
    }
    lengths.dedup();
    match (&head.codings, &lengths[..]) {
        (None, []) => Ok(Announced::Nothing),
        (None, [length]) => Ok(Announced::Length(*length)),
        (Some(codings), []) if head.minor == 1 && codings[..] == [b"chunked".to_vec()] => {
            Ok(Announced::Chunked)
        }
        _ => Err(Bad),
    }
}

fn read_body(head: &Head, stream: &[u8], used: usize, is_head: bool, has_ended: bool) -> Outcome {
    let complete = |body: &[u8], length, until_close| {
        let (body, fields) = (body.to_vec(), head.fields.clone());
        let (status, used) = (head.status, used + length);
        Outcome::Complete(Message { status, fields, body, used, until_close })
    };
    if is_head || matches!(head.status, 204 | 304) {
        return complete(b"", 0, false);
    }
    match announced(head) {
        Err(Bad) => Outcome::Bad,
        Ok(Announced::Length(length)) => {
            let body = usize::try_from(length).ok().and_then(|length| stream.get(..length));
            body.map_or(Outcome::Short, |body| complete(body, body.len(), false))
        }
        Ok(Announced::Chunked) => match chunked(stream) {
            Ok(Some((body, _, length))) => complete(&body, length, false),
            Ok(None) => Outcome::Short,
            Err(Bad) => Outcome::Bad,
        },
        Ok(Announced::Nothing) if has_ended => complete(stream, stream.len(), true),
        Ok(Announced::Nothing) => Outcome::Short,
    }
}

/// The fields of a trailer section, and how long it is, its blank line included.
fn trailer_section(stream: &[u8]) -> Result<Option<(Fields, usize)>, Bad> {
    let mut at = 0;
    loop {
        let Some(line) = crlf_line(&stream[at..])? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            break;
        }
    }
    let fields = lenient_fields(&stream[..at], false)?;
    if !fields.is_empty() && at > SECTION_BYTES_MAX { Err(Bad) } else { Ok(Some((fields, at))) }
}

/// The first line without its CR LF, which ends every line here. `None`: it has no end yet.
fn crlf_line(stream: &[u8]) -> Result<Option<&[u8]>, Bad> {
    let Some(end) = stream.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = stream[..end].strip_suffix(b"\r").ok_or(Bad)?;
    Ok(Some(line))
}

fn values_of<'a>(fields: &[(&'a [u8], &'a [u8])], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
}

fn is_token(bytes: &[u8]) -> bool {
    let is_mark = |byte| b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

/// Without spaces and tabs at both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    trim_end(&bytes[start..])
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().rev().take_while(|byte| is_blank(**byte)).count();
    &bytes[..bytes.len() - blank]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What no text of a response holds, however lenient its reader.
fn is_never_text(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\r' | b'\n')
}

/// What no field value of a request and no chunk extension holds.
fn is_control(byte: u8) -> bool {
    byte != b'\t' && (byte < 0x20 || byte == 0x7f)
}

const INTERIM_RESPONSES_MAX: usize = 5;
const FIELDS_MAX: usize = 128;
/// Chunk extensions and trailers.
const SECTION_BYTES_MAX: usize = 16 * 1024;
