//! Requests as servers hear them: parsed from pieces of any size, strictly.

use super::basic::AWAY;
use super::http::upload;
use super::random::body_bytes;
use super::uploads::Heard;

/// A request, as far as a server cares.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) hop: u64,
    pub(crate) method: String,
    /// Of a chunked body, known when it is whole.
    pub(crate) length: u64,
    pub(crate) is_chunked: bool,
    /// It waits for a word before it sends its body.
    pub(crate) expects: bool,
    /// The values of its Cookie fields.
    pub(crate) cookies: Vec<String>,
    /// What answers a challenge of scheme Digest.
    pub(crate) authorization: Option<String>,
    /// Credentials of scheme Basic.
    pub(crate) basic: Option<String>,
    /// A redirect has led to another origin on the way to it.
    pub(crate) is_away: bool,
    pub(crate) host: String,
    /// Its target names the server too, as for a proxy.
    pub(crate) is_absolute: bool,
    /// What it says to a proxy of who asks, in lower case.
    pub(crate) proxy_login: Option<String>,
    /// It asks for another protocol.
    pub(crate) upgrades: bool,
    pub(crate) asks_close: bool,
    pub(crate) accepts_codings: bool,
}

pub(crate) enum Parsed {
    /// The first byte of a request.
    Begun,
    Head(Asked),
    Whole(Asked),
}

/// Reads requests, in pieces of any size. Strict: a client that is not is at fault.
#[derive(Default)]
pub(crate) struct Parser {
    head: Vec<u8>,
    body: Option<(Asked, u64, Heard)>,
}

impl Parser {
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Parsed>, String> {
        let mut parsed = Vec::new();
        while !bytes.is_empty() {
            if let Some((asked, at, heard)) = &mut self.body {
                let left = if asked.is_chunked { heard.left } else { asked.length - *at };
                let count = bytes.len().min(left as usize);
                if asked.is_chunked && count == 0 {
                    heard.framing(bytes[0])?;
                    bytes = &bytes[1..];
                }
                let (piece, rest) = bytes.split_at(count);
                if body_bytes(upload(asked.id), *at, count) != piece {
                    return Err(format!("the body of request {} is not as given", asked.id));
                }
                *at += count as u64;
                heard.left -= if asked.is_chunked { count as u64 } else { 0 };
                if heard.is_whole {
                    asked.length = *at;
                }
                bytes = rest;
            } else {
                if self.head.is_empty() {
                    parsed.push(Parsed::Begun);
                }
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                if !self.head.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let asked = read_head(&std::mem::take(&mut self.head))?;
                parsed.push(Parsed::Head(asked.clone()));
                self.body = Some((asked, 0, Heard::default()));
            }
            if let Some((asked, _, _)) = self.body.take_if(|(asked, at, _)| *at == asked.length) {
                parsed.push(Parsed::Whole(asked));
            }
        }
        Ok(parsed)
    }
}

/// Method and target of a request line.
fn read_line(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    (words.next() == Some("HTTP/1.1")).then_some((method, target))
}

fn read_head(head: &[u8]) -> Result<Asked, String> {
    let text = String::from_utf8_lossy(head);
    let wrong = || format!("not a request: {text:?}");
    let mut lines = text.split("\r\n");
    let Some((method, path)) = lines.next().and_then(read_line) else { return Err(wrong()) };
    let named = path.strip_prefix("http://");
    let path = named.map_or(path, |named| named.split_once('/').unwrap_or_default().1);
    let is_away = path.split('/').next_back() == Some(AWAY);
    let mut numbers = path.trim_start_matches('/').split('/').map(str::parse);
    let (Some(Ok(id)), Some(Ok(hop))) = (numbers.next(), numbers.next()) else {
        return Err(wrong());
    };
    let (mut length, mut asks_close, mut accepts_codings) = (0, false, false);
    let (mut is_chunked, mut expects) = (false, false);
    let (mut has_upgrade, mut has_option) = (false, false);
    let (mut cookies, mut authorization) = (Vec::new(), None);
    let (mut host, mut proxy_login) = (String::new(), None);
    let (mut basic, mut logins) = (None, 0);
    for given in lines {
        let line = given.to_ascii_lowercase();
        logins += u32::from(line.starts_with("authorization:"));
        if line.starts_with("authorization: basic ") {
            basic = given.rsplit_once(' ').map(|(_, value)| value.to_owned());
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(|_| wrong())?;
        }
        if line == "transfer-encoding: chunked" {
            (length, is_chunked) = (u64::MAX, true);
        }
        expects |= line == "expect: 100-continue";
        has_upgrade |= line == "upgrade: sim";
        has_option |= line == "connection: upgrade";
        cookies.extend(line.strip_prefix("cookie: ").map(str::to_owned));
        let value = line.strip_prefix("authorization: digest ").map(str::to_owned);
        authorization = value.or(authorization);
        if let Some(value) = line.strip_prefix("host: ") {
            value.clone_into(&mut host);
        }
        let login = line.strip_prefix("proxy-authorization: ").map(str::to_owned);
        proxy_login = login.or(proxy_login);
        asks_close |= line == "connection: close";
        accepts_codings |= line.starts_with("accept-encoding: gzip");
    }
    let method = method.to_owned();
    if named.is_some_and(|named| !named.starts_with(&format!("{host}/"))) {
        return Err(wrong());
    }
    if has_upgrade != has_option || logins > 1 {
        return Err(wrong());
    }
    Ok(Asked {
        id,
        hop,
        method,
        length,
        is_chunked,
        expects,
        cookies,
        authorization,
        basic,
        is_away,
        host,
        is_absolute: named.is_some(),
        proxy_login,
        upgrades: has_upgrade,
        asks_close,
        accepts_codings,
    })
}
