//! One URL or one JSON line in, one request out, or why it cannot be one.
//!
//! The command line's options are the defaults; what a job says itself wins. A field that is not
//! known is refused, so that a typing error is never silence.

use std::borrow::Cow;
use std::io::Cursor;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use whippet::url::Url;
use whippet::{Body, Error, Kind, Phase, Proxy, Request, Resolve};

use super::contents::Contents;
use super::values::{self, Header, ProxyChoice, Seconds, Userinfo};

/// What jobs are made with, out of the command line. Limits, redirects, retries and TLS are the
/// reactor's settings and not repeated here.
#[derive(Clone, Default)]
pub(crate) struct Defaults {
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<Header>,
    pub(crate) contents: Option<Contents>,
    /// Whether a body waits for the server's word.
    pub(crate) expect_continue: bool,
    pub(crate) auth: Option<Auth>,
    /// The login in a URL answers a Digest challenge, and is not sent as it is.
    pub(crate) digest: bool,
    /// So does the login in a proxy's.
    pub(crate) proxy_digest: bool,
    /// Most bytes of a body that is streamed.
    pub(crate) body_bytes_max: Option<u64>,
    /// Whether the reactor gathers bodies.
    pub(crate) collect: bool,
}

/// How a request says who asks.
#[derive(Clone, PartialEq)]
pub(crate) enum Auth {
    Basic(Userinfo),
    Bearer(String),
    Digest(Userinfo),
}

/// One piece of work: what it is called, and its request, or why there is none.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Option<Value>,
    /// As it was given; `None` where a line gave none that could be read.
    pub(crate) url: Option<Box<str>>,
    pub(crate) request: Result<Request, Failure>,
}

/// Why there is no complete response, in the words that are printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) message: String,
}

impl Job {
    /// A request of one URL.
    pub(crate) fn from_url(url: &str, defaults: &Defaults) -> Self {
        let spec = Spec { url: Some(url.into()), ..Spec::default() };
        spec.into_job(defaults)
    }

    /// A line of JSON.
    pub(crate) fn from_line(line: &[u8], defaults: &Defaults) -> Self {
        let mut spec = Spec::default();
        match spec.read(line) {
            Ok(()) => spec.into_job(defaults),
            Err(message) => Self::unfit(spec.id, spec.url, message),
        }
    }

    /// Something that cannot be read as a job.
    pub(crate) fn unfit(id: Option<Value>, url: Option<Box<str>>, message: String) -> Self {
        Self { id, url, request: Err(Failure::invalid(message)) }
    }
}

impl Failure {
    pub(crate) fn invalid(message: String) -> Self {
        Self::new(Kind::InvalidRequest, Phase::Request, message)
    }

    pub(crate) fn new(kind: Kind, phase: Phase, message: String) -> Self {
        Self { kind: kind.as_str(), phase: phase.as_str(), message }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self::new(error.kind(), error.phase(), error.to_string())
    }
}

/// What a job says.
#[derive(Default)]
struct Spec {
    id: Option<Value>,
    url: Option<Box<str>>,
    method: Option<String>,
    headers: Vec<Header>,
    body: Option<Arc<[u8]>>,
    /// Fields behind the body.
    trailers: Vec<Header>,
    timeout: Option<Seconds>,
    follow: Option<bool>,
    retries: Option<u32>,
    decode: Option<bool>,
    resolve: Vec<Resolve>,
    proxy: Option<ProxyChoice>,
    auth: Option<Auth>,
    cookies: Option<bool>,
    expect_continue: Option<bool>,
}

impl Spec {
    /// Takes a line's fields. After an error, `id` and `url` are there if they could be read.
    fn read(&mut self, line: &[u8]) -> Result<(), String> {
        let value = serde_json::from_slice(line).map_err(|error| not_json(&error))?;
        let Value::Object(mut fields) = value else {
            return Err("a job is a JSON object".to_owned());
        };
        self.id = fields.shift_remove("id");
        if let Some(url) = fields.shift_remove("url") {
            self.url = Some(text("url", url)?.into());
        }
        for (name, value) in fields {
            self.take(&name, value)?;
        }
        if self.url.is_none() {
            return Err("the field url is missing".to_owned());
        }
        if !self.trailers.is_empty() && self.body.is_none() {
            return Err("trailers go behind a body or body_base64 of the job's own".to_owned());
        }
        Ok(())
    }

    /// Takes a field. One that is null says nothing; but a name that nobody knows is refused with
    /// null, too.
    fn take(&mut self, name: &str, value: Value) -> Result<(), String> {
        match name {
            known if value.is_null() && FIELDS.contains(&known) => {}
            "method" => self.method = Some(text(name, value)?),
            "headers" | "trailers" => {
                let fields = headers(&value);
                let fields =
                    fields.ok_or_else(|| format!("{name} is not a list of [name, value]"))?;
                *if name == "headers" { &mut self.headers } else { &mut self.trailers } = fields;
            }
            "body" | "body_base64" if self.body.is_some() => {
                return Err("body and body_base64 exclude one another".to_owned());
            }
            "body" => self.body = Some(text(name, value)?.into_bytes().into()),
            "body_base64" => {
                let decoded = BASE64.decode(text(name, value)?);
                let decoded = decoded.map_err(|error| format!("body_base64: {error}"))?;
                self.body = Some(decoded.into());
            }
            "timeout" => {
                let number = value.as_f64().ok_or("timeout is not a number of seconds")?;
                self.timeout = Some(values::span(number).map_err(|e| format!("timeout: {e}"))?);
            }
            "follow" => self.follow = Some(value.as_bool().ok_or("follow is not true or false")?),
            "decode" => self.decode = Some(value.as_bool().ok_or("decode is not true or false")?),
            "retries" => {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                self.retries = Some(number.ok_or("retries is not a number of attempts")?);
            }
            "resolve" => self.resolve = overrides(&value)?,
            "proxy" => {
                let choice = values::proxy(&text(name, value)?);
                self.proxy = Some(choice.map_err(|error| format!("proxy: {error}"))?);
            }
            "auth" => self.auth = Some(auth(&value)?),
            "expect_continue" => {
                let expects = value.as_bool().ok_or("expect_continue is not true or false")?;
                self.expect_continue = Some(expects);
            }
            "cookies" => {
                self.cookies = Some(value.as_bool().ok_or("cookies is not true or false")?);
            }
            unknown => return Err(format!("unknown field {unknown:?}")),
        }
        Ok(())
    }

    fn into_job(self, defaults: &Defaults) -> Job {
        let request = self.request(defaults).map_err(|error| Failure::from(&error));
        Job { id: self.id, url: self.url, request }
    }

    fn request(&self, defaults: &Defaults) -> Result<Request, Error> {
        // The command line's are not for a job with a body of its own.
        let contents = defaults.contents.as_ref().filter(|_| self.body.is_none());
        let usual = if self.body.is_some() { "POST" } else { "GET" };
        let method = self.method.as_ref().or(defaults.method.as_ref());
        let method = method.map_or(contents.map_or(usual, Contents::method), String::as_str);
        let url = self.url.as_deref().unwrap_or_default();
        let url = &*contents.map_or(Cow::Borrowed(url), |contents| contents.complete(url));
        let gives = self.gives("authorization");
        let is_in_url = defaults.digest && self.auth.is_none() && !gives;
        let in_url = is_in_url.then(|| login_in_url(url)).flatten().map(Auth::Digest);
        let own = self.auth.as_ref().or(in_url.as_ref());
        let says_who = own.is_some() || gives;
        let mut request = match says_who.then(|| url_without_credentials(url)).flatten() {
            Some(parsed) => Request::for_url(method, parsed)?,
            None => Request::new(method, url)?,
        };
        let sent = |name: &str, value| {
            contents.map_or(Cow::Borrowed(value), |contents| contents.value(name, value))
        };
        for (name, value) in &self.headers {
            request = request.header(name, &*sent(name, value))?;
        }
        request = authorized(request, own)?;
        for (name, value) in &defaults.headers {
            let from_url = is_authorization(name) && request.header_value(name).is_some();
            let is_said = from_url || (own.is_some() && is_authorization(name));
            if !is_said && !self.gives(name) {
                request = request.header(name, &*sent(name, value))?;
            }
        }
        request = authorized(request, defaults.auth.as_ref().filter(|_| own.is_none()))?;
        if let (Some(content_type), None) =
            (contents.and_then(Contents::content_type), request.header_value("content-type"))
        {
            request = request.header("Content-Type", &*content_type)?;
        }
        if let Some(body) = self.own_body(&request)? {
            request = request.body(body);
        } else if let Some(contents) = contents {
            request = contents.put_in(request)?;
        }
        self.limited(request, defaults)
    }

    /// One with trailers is chunked, and sent once.
    fn own_body(&self, request: &Request) -> Result<Option<Body>, Error> {
        let Some(bytes) = self.body.clone() else { return Ok(None) };
        if self.trailers.is_empty() {
            return Ok(Some(bytes.into()));
        }
        // What no header may be is refused now; what no trailer may be, when the body was sent.
        for (name, value) in &self.trailers {
            request.clone().header(name, value)?;
        }
        let trailers = self.trailers.clone();
        Ok(Some(Body::reader_with_trailers(Cursor::new(bytes), move |_| trailers)))
    }

    fn limited(&self, mut request: Request, defaults: &Defaults) -> Result<Request, Error> {
        if let Some(Seconds(total)) = self.timeout {
            request = request.timeout(total);
        }
        if let Some(follow) = self.follow {
            request = request.follow(follow);
        }
        if let Some(cookies) = self.cookies {
            request = request.cookies(cookies);
        }
        if let Some(decode) = self.decode {
            request = request.decode(decode);
        }
        if self.expect_continue.unwrap_or(defaults.expect_continue) {
            request = request.expect_continue(true);
        }
        if let Some(retries) = self.retries {
            request = request.retries(retries);
        }
        if let (Some(bytes), false) = (defaults.body_bytes_max, defaults.collect) {
            request = request.body_bytes_max(bytes);
        }
        if let Some(ProxyChoice(proxy)) = &self.proxy {
            let digest = |proxy: Proxy| if defaults.proxy_digest { proxy.digest() } else { proxy };
            request = request.proxy(proxy.clone().map(digest));
        }
        for Resolve { host, port, address } in &self.resolve {
            request = request.resolve(host, *port, *address)?;
        }
        Ok(request.collect(defaults.collect))
    }

    fn gives(&self, name: &str) -> bool {
        self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
    }
}

/// The URL without user name and password, for a job that itself says who asks: they would become
/// an Authorization header of their own.
fn url_without_credentials(url: &str) -> Option<Url> {
    let mut parsed = Url::parse(url).ok()?;
    parsed.set_username("").ok()?;
    parsed.set_password(None).ok()?;
    Some(parsed)
}

/// With `--digest`, what a URL's user name and password are for.
fn login_in_url(url: &str) -> Option<Userinfo> {
    let request = Request::get(url).ok()?;
    let token = request.header_value("authorization")?.strip_prefix(b"Basic ")?;
    values::userinfo(&String::from_utf8(BASE64.decode(token).ok()?).ok()?).ok()
}

fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case("authorization")
}

/// Adds an Authorization where there is none.
fn authorized(request: Request, auth: Option<&Auth>) -> Result<Request, Error> {
    match auth {
        Some(Auth::Basic(Userinfo { user, password })) => Ok(request.basic_auth(user, password)),
        Some(Auth::Bearer(token)) => request.bearer_auth(token),
        Some(Auth::Digest(Userinfo { user, password })) => request.digest_auth(user, password),
        None => Ok(request),
    }
}

/// serde_json's words, without the line that it counts itself.
fn not_json(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    format!("not JSON: {said} at column {}", error.column())
}

fn text(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(format!("{name} is not a string")),
    }
}

fn headers(value: &Value) -> Option<Vec<Header>> {
    let pair = |pair: &Value| match pair.as_array()?.as_slice() {
        [name, value] => Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())),
        _ => None,
    };
    value.as_array()?.iter().map(pair).collect()
}

fn overrides(value: &Value) -> Result<Vec<Resolve>, String> {
    let fields = value.as_object().ok_or("resolve is not {\"host:port\": \"ip\"}")?;
    let one = |(name, address): (&String, &Value)| {
        let address = address.as_str().ok_or_else(|| format!("{name:?} has no address"))?;
        values::resolve_to(name, address)
    };
    fields.iter().map(one).collect::<Result<_, _>>().map_err(|error| format!("resolve: {error}"))
}

fn auth(value: &Value) -> Result<Auth, String> {
    let wanted = "auth is not {\"basic\": \"user:pass\"}, {\"bearer\": \"token\"} or \
                  {\"digest\": \"user:pass\"}";
    let fields = value.as_object().ok_or(wanted)?;
    let mut fields = fields.iter();
    let (Some((scheme, secret)), None) = (fields.next(), fields.next()) else {
        return Err(wanted.to_owned());
    };
    let secret = secret.as_str().ok_or(wanted)?;
    match scheme.as_str() {
        "basic" => values::userinfo(secret).map(Auth::Basic),
        "bearer" => values::bearer(secret).map(Auth::Bearer),
        "digest" => values::userinfo(secret).map(Auth::Digest),
        unknown => return Err(format!("auth: unknown scheme {unknown:?}")),
    }
    .map_err(|error| format!("auth: {error}"))
}

/// What a job may say, beside `id` and `url`.
const FIELDS: [&str; 14] = [
    "method",
    "headers",
    "trailers",
    "body",
    "body_base64",
    "timeout",
    "follow",
    "retries",
    "decode",
    "resolve",
    "proxy",
    "auth",
    "cookies",
    "expect_continue",
];

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn job(line: &str, defaults: &Defaults) -> Job {
        Job::from_line(line.as_bytes(), defaults)
    }

    fn refusal(line: &str) -> Failure {
        job(line, &Defaults::default()).request.unwrap_err()
    }

    #[test]
    fn a_job_says_its_method_or_its_body_does() {
        let none = Defaults::default();
        let method = |line: &str| job(line, &none).request.unwrap().method().to_string();
        assert_eq!(method(r#"{"url":"http://a.example/"}"#), "GET");
        assert_eq!(method(r#"{"url":"http://a.example/","body":""}"#), "POST");
        assert_eq!(method(r#"{"url":"http://a.example/","body_base64":"AAE="}"#), "POST");
        assert_eq!(method(r#"{"url":"http://a.example/","body":"x","method":"PUT"}"#), "PUT");
        assert_eq!(method(r#"{"url":"http://a.example/","method":null}"#), "GET");
        let head = Defaults { method: Some("HEAD".into()), ..Defaults::default() };
        assert_eq!(job(r#"{"url":"http://a/"}"#, &head).request.unwrap().method(), "HEAD");
    }

    #[test]
    fn null_is_as_if_a_field_were_not_there() {
        for name in FIELDS {
            let line = format!(r#"{{"url":"http://a/","{name}":null}}"#);
            let request = job(&line, &Defaults::default()).request.unwrap();
            assert_eq!(request.method(), "GET", "{name}");
        }
    }

    #[test]
    fn each_field_is_described() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FETCH.md"));
        for name in FIELDS.iter().chain(&["url", "id"]) {
            let is_there =
                |line: &&str| line.starts_with('|') && line.contains(&format!("`{name}`"));
            assert!(text.lines().any(|line| is_there(&line)), "{name}");
        }
    }

    #[test]
    fn a_jobs_own_header_replaces_the_default_of_its_name() {
        let defaults = Defaults {
            headers: vec![("X-A".into(), "default".into()), ("X-B".into(), "default".into())],
            auth: Some(Auth::Bearer("default".into())),
            ..Defaults::default()
        };
        let line =
            r#"{"url":"http://u:p@a.example/","headers":[["x-a","own"],["Authorization","own"]]}"#;
        let request = job(line, &defaults).request.unwrap();
        let value = |name| request.header_value(name).map(String::from_utf8_lossy);
        assert_eq!(value("X-A").unwrap(), "own");
        assert_eq!(value("X-B").unwrap(), "default");
        assert_eq!(value("Authorization").unwrap(), "own");
        let line = r#"{"url":"http://u:p@a.example/","auth":{"bearer":"own"}}"#;
        let request = job(line, &defaults).request.unwrap();
        assert_eq!(request.header_value("authorization").unwrap(), b"Bearer own");
    }

    #[test]
    fn a_digest_login_is_never_sent_as_it_is() {
        let user = || Userinfo { user: "u".into(), password: "canary".into() };
        let with_user =
            Defaults { auth: Some(Auth::Digest(user())), digest: true, ..Defaults::default() };
        let alone = Defaults { digest: true, ..Defaults::default() };
        let basic = Defaults { auth: Some(Auth::Basic(user())), ..Defaults::default() };
        for (line, defaults, header) in [
            (r#"{"url":"http://a/"}"#, &with_user, None),
            (r#"{"url":"http://u:canary@a/"}"#, &with_user, None),
            (r#"{"url":"http://u:canary@a/"}"#, &alone, None),
            (r#"{"url":"http://a/","auth":{"digest":"u:canary"}}"#, &basic, None),
            (r#"{"url":"http://u:p@a/","auth":{"digest":"u:canary"}}"#, &basic, None),
            (r#"{"url":"http://u:p@a/","auth":{"bearer":"t"}}"#, &with_user, Some("Bearer t")),
            (r#"{"url":"http://u:p@a/","headers":[["authorization","x"]]}"#, &alone, Some("x")),
        ] {
            let request = job(line, defaults).request.unwrap();
            let value = request.header_value("authorization").map(String::from_utf8_lossy);
            assert_eq!(value.as_deref(), header, "{line}");
            assert_eq!(request.url().as_str(), "http://a/", "{line}");
        }
    }

    #[test]
    fn repeated_default_headers_are_all_sent() {
        let twice = vec![("X-A".to_owned(), "1".to_owned()), ("X-A".to_owned(), "2".to_owned())];
        let defaults = Defaults { headers: twice, ..Defaults::default() };
        let request = Job::from_url("http://u:p@a.example/", &defaults).request.unwrap();
        assert_eq!(request.header_value("x-a").unwrap(), b"1");
    }

    #[test]
    fn what_is_no_job_is_said_in_one_line_and_keeps_its_id() {
        for (line, named) in [
            ("", "not JSON"),
            ("{", "column 1"),
            ("[]", "object"),
            ("{}", "url is missing"),
            (r#"{"url":7}"#, "url"),
            (r#"{"url":"http://a/","ulr":1}"#, "\"ulr\""),
            (r#"{"url":"http://a/","ulr":null}"#, "\"ulr\""),
            (r#"{"url":"http://a/","proxy":"x://b"}"#, "proxy"),
            (r#"{"url":"http://a/","proxy":1}"#, "proxy"),
            (r#"{"url":"http://a/","decode":"gzip"}"#, "decode"),
            (r#"{"url":"http://a/","timeout":"1"}"#, "timeout"),
            (r#"{"url":"http://a/","timeout":-1}"#, "timeout"),
            (r#"{"url":"http://a/","retries":-1}"#, "retries"),
            (r#"{"url":"http://a/","retries":99999999999}"#, "retries"),
            (r#"{"url":"http://a/","follow":1}"#, "follow"),
            (r#"{"url":"http://a/","cookies":"no"}"#, "cookies"),
            (r#"{"url":"http://a/","expect_continue":1}"#, "expect_continue"),
            (r#"{"url":"http://a/","headers":{"a":"b"}}"#, "headers"),
            (r#"{"url":"http://a/","headers":[["a"]]}"#, "headers"),
            (r#"{"url":"http://a/","body":"x","trailers":{"a":"b"}}"#, "trailers"),
            (r#"{"url":"http://a/","body":"x","trailers":[["a\r\nb","c"]]}"#, "name"),
            (r#"{"url":"http://a/","body":"x","trailers":[["a","b\nc"]]}"#, "value"),
            (
                r#"{"url":"http://a/","body":"x","trailers":[["Content-Length","1"]]}"#,
                "Content-Length",
            ),
            (r#"{"url":"http://a/","trailers":[["a","b"]]}"#, "body"),
            (r#"{"url":"http://a/","body":"x","body_base64":"AA=="}"#, "body_base64"),
            (r#"{"url":"http://a/","body_base64":"?"}"#, "body_base64"),
            (r#"{"url":"http://a/","resolve":{"a":"::1"}}"#, "resolve"),
            (r#"{"url":"http://a/","resolve":{"a:80":"b"}}"#, "resolve"),
            (r#"{"url":"http://a/","resolve":{"a:80":"1\n2"}}"#, "resolve"),
            (r#"{"url":"http://a/","resolve":{"a\n:80":"1","b\n":"::1"}}"#, "resolve"),
            (r#"{"url":"http://a/","resolve":{"a\n:80":[]}}"#, "resolve"),
            (r#"{"url":"http://a/","auth":{"hawk":"a:b"}}"#, "hawk"),
            (r#"{"url":"http://a/","auth":{"digest":"a"}}"#, "auth"),
            (r#"{"url":"http://a/","auth":{"basic":"a"}}"#, "auth"),
            (r#"{"url":"http://a/","auth":{}}"#, "auth"),
        ] {
            let failure = refusal(line);
            assert_eq!((failure.kind, failure.phase), ("invalid_request", "request"), "{line}");
            assert!(failure.message.contains(named), "{line}: {}", failure.message);
            assert!(!failure.message.contains('\n'));
        }
        let kept = job(r#"{"id":[1,{"b":2,"a":1}],"url":"http://a/","x":1}"#, &Defaults::default());
        assert_eq!(kept.id.unwrap().to_string(), r#"[1,{"b":2,"a":1}]"#);
        assert_eq!(kept.url.as_deref(), Some("http://a/"));
        assert_eq!(refusal(r#"{"url":"ftp://a/"}"#).kind, "invalid_url");
        let deep = format!(r#"{{"id":{}"#, "[".repeat(100_000));
        assert_eq!(refusal(&deep).kind, "invalid_request");
    }
}
