//! A result as it is printed: a JSON object, or one line of text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use whippet::http::Version;
use whippet::url::Url;
use whippet::{Head, Headers, Hop, Stats};

use super::jobs::Failure;
use super::values::shown;

/// What is kept of a response's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: &'static str,
    pub(crate) reason: String,
    pub(crate) final_url: String,
    pub(crate) redirects: Vec<(u16, String)>,
    /// As the JSON record has them.
    pub(crate) headers: Vec<u8>,
}

impl Answer {
    /// All of a head that a record shows.
    pub(crate) fn of(head: &Head<'_>, url: &Url, redirects: &[Hop]) -> Self {
        let mut headers = Vec::with_capacity(256);
        write_headers(&mut headers, head.headers());
        Self {
            headers,
            final_url: url.as_str().to_owned(),
            redirects: redirects.iter().map(|hop| (hop.status, hop.url.to_string())).collect(),
            reason: text_of(head.reason()),
            ..Self::status_of(head)
        }
    }

    /// Where a fetch was that has no answer. Its status is 0.
    pub(crate) fn missing(url: &Url, redirects: &[Hop]) -> Self {
        Self {
            final_url: url.as_str().to_owned(),
            redirects: redirects.iter().map(|hop| (hop.status, hop.url.to_string())).collect(),
            ..Self::default()
        }
    }

    /// The status alone, where nothing else is shown.
    pub(crate) fn status_of(head: &Head<'_>) -> Self {
        let version = if head.version() == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        Self { status: head.status().as_u16(), version, ..Self::default() }
    }
}

/// A fetch that ended, or a line that never became one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) n: u64,
    pub(crate) id: Option<&'a Value>,
    pub(crate) url: Option<&'a str>,
    /// Set where the input's line could not become a request.
    pub(crate) line: Option<u64>,
    pub(crate) answer: Option<&'a Answer>,
    /// Trailer fields in JSON; empty for none.
    pub(crate) trailers: &'a [u8],
    /// Set where the body is part of the record.
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) bytes: u64,
    pub(crate) stats: &'a Stats,
    pub(crate) failure: Option<&'a Failure>,
}

impl Ended<'_> {
    /// The status of the answer, 0 where there was none.
    pub(crate) fn status(&self) -> u16 {
        self.answer.map_or(0, |answer| answer.status)
    }

    /// Appends one JSON object and a line feed.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        match self.id {
            Some(id) => drop(serde_json::to_writer(&mut *out, id)),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"url\":");
        write_text_or_null(out, self.url);
        if let Some(line) = self.line {
            let _ = write!(out, ",\"line\":{line}");
        }
        self.write_answer(out);
        out.extend_from_slice(b",\"trailers\":");
        out.extend_from_slice(if self.trailers.is_empty() { b"[]" } else { self.trailers });
        self.write_body(out);
        let Stats { attempts, remote, reused, wire_bytes, .. } = self.stats;
        let _ = write!(
            out,
            ",\"bytes\":{},\"wire_bytes\":{wire_bytes},\"attempts\":{attempts}",
            self.bytes
        );
        self.write_redirects(out);
        match remote {
            Some(address) => drop(write!(out, ",\"remote\":\"{address}\"")),
            None => out.extend_from_slice(b",\"remote\":null"),
        }
        let _ = write!(out, ",\"reused\":{reused}");
        self.write_timings(out);
        self.write_failure(out);
        out.extend_from_slice(b"}\n");
    }

    fn write_answer(&self, out: &mut Vec<u8>) {
        let Some(answer) = self.answer else {
            let none = b",\"final_url\":null,\"status\":null,\"reason\":null,\"version\":null";
            out.extend_from_slice(none);
            return out.extend_from_slice(b",\"headers\":[]");
        };
        out.extend_from_slice(b",\"final_url\":");
        write_text(out, &answer.final_url);
        if answer.status == 0 {
            let none = b",\"status\":null,\"reason\":null,\"version\":null,\"headers\":[]";
            return out.extend_from_slice(none);
        }
        let _ = write!(out, ",\"status\":{},\"reason\":", answer.status);
        write_text(out, &answer.reason);
        let _ = write!(out, ",\"version\":\"{}\",\"headers\":", answer.version);
        out.extend_from_slice(if answer.headers.is_empty() { b"[]" } else { &answer.headers });
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        let Some(body) = self.body else { return };
        if let Ok(text) = std::str::from_utf8(body) {
            out.extend_from_slice(b",\"body\":");
            write_text(out, text);
        } else {
            out.extend_from_slice(b",\"body_base64\":\"");
            out.extend_from_slice(BASE64.encode(body).as_bytes());
            out.push(b'"');
        }
    }

    fn write_redirects(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"redirects\":[");
        let redirects = self.answer.map_or(&[][..], |answer| &answer.redirects);
        for (nth, (status, url)) in redirects.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{{\"status\":{status},\"url\":");
            write_text(out, url);
            out.push(b'}');
        }
        out.push(b']');
    }

    fn write_timings(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"timings\":{");
        for (nth, (name, span)) in phases(self.stats).into_iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            let (seconds, micros) = (span.as_secs(), span.subsec_micros());
            let _ = write!(out, "{comma}\"{name}\":{seconds}.{micros:06}");
        }
        out.push(b'}');
    }

    fn write_failure(&self, out: &mut Vec<u8>) {
        let Some(Failure { kind, phase, message }) = self.failure else {
            return out.extend_from_slice(b",\"error\":null");
        };
        let _ = write!(out, ",\"error\":{{\"kind\":\"{kind}\",\"message\":");
        write_text(out, message);
        let _ = write!(out, ",\"phase\":\"{phase}\"}}");
    }

    /// Appends one line: status, bytes, milliseconds and URL; the error behind it. `source` is
    /// where lines come from.
    pub(crate) fn write_line(&self, source: &str, out: &mut Vec<u8>) {
        let millis = self.stats.timings.total.as_secs_f64() * 1e3;
        let mut line = String::with_capacity(128);
        let _ = match (self.answer, self.failure) {
            (Some(answer), None) => write!(line, "{:<15}", answer.status),
            (_, Some(failure)) => write!(line, "{:<15}", failure.kind),
            (None, None) => write!(line, "{:<15}", "-"),
        };
        let _ = write!(line, " {:>10} B {millis:>9.1} ms  ", self.bytes);
        if let Some(number) = self.line {
            let _ = write!(line, "{source}:{number} ");
        }
        push_plain(&mut line, &shown(self.url.unwrap_or_default()));
        if let Some(failure) = self.failure {
            line.push_str("  ");
            push_plain(&mut line, &failure.message);
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }
}

/// The phases of a fetch by the names they are reported under.
pub(crate) fn phases(stats: &Stats) -> [(&'static str, Duration); 7] {
    let timings = &stats.timings;
    [
        ("queued", timings.queued),
        ("dns", timings.dns),
        ("connect", timings.connect),
        ("proxy", timings.proxy),
        ("tls", timings.tls),
        ("first_byte", timings.first_byte),
        ("total", timings.total),
    ]
}

/// Fields as a list of pairs, in wire order.
pub(crate) fn write_headers(out: &mut Vec<u8>, headers: Headers<'_>) {
    out.push(b'[');
    for (nth, (name, value)) in headers.enumerate() {
        out.extend_from_slice(if nth == 0 { b"[" } else { b",[" });
        write_text(out, name);
        out.push(b',');
        match std::str::from_utf8(value) {
            Ok(value) => write_text(out, value),
            Err(_) => write_text(out, &latin1(value)),
        }
        out.push(b']');
    }
    out.push(b']');
}

/// UTF-8, or else Latin-1.
fn text_of(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| latin1(bytes), str::to_owned)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A JSON string. Writing to a vector does not fail.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

fn write_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// Without what could move a terminal's cursor, or begin another line.
pub(crate) fn push_plain(line: &mut String, text: &str) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return line.push_str(text);
    }
    line.extend(text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended<'a>(stats: &'a Stats, id: &'a Value) -> Ended<'a> {
        Ended {
            n: 1,
            id: Some(id),
            url: Some("http://a/\u{1b}[2J"),
            line: None,
            answer: None,
            trailers: &[],
            body: None,
            bytes: 0,
            stats,
            failure: None,
        }
    }

    fn parsed(ended: &Ended<'_>) -> Value {
        let mut out = Vec::new();
        ended.write_json(&mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_record_has_the_fixed_fields_in_their_order() {
        let (mut stats, id) = (Stats::default(), Value::from("x"));
        stats.timings.total = Duration::from_micros(1_000_007);
        stats.remote = Some("[::1]:80".parse().unwrap());
        let answer = Answer {
            status: 200,
            version: "HTTP/1.1",
            reason: "OK".into(),
            final_url: "http://a/".into(),
            redirects: vec![(302, "http://b/\"".into())],
            headers: b"[[\"a\",\"b\"]]".to_vec(),
        };
        let full = Ended {
            answer: Some(&answer),
            body: Some("\u{e9}\n".as_bytes()),
            bytes: 3,
            ..ended(&stats, &id)
        };
        let value = parsed(&full);
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(
            names,
            [
                "id",
                "url",
                "final_url",
                "status",
                "reason",
                "version",
                "headers",
                "trailers",
                "body",
                "bytes",
                "wire_bytes",
                "attempts",
                "redirects",
                "remote",
                "reused",
                "timings",
                "error"
            ]
        );
        assert_eq!(value["body"], "\u{e9}\n");
        assert_eq!(value["timings"]["total"], 1.000_007);
        assert_eq!(value["redirects"][0]["url"], "http://b/\"");
        assert_eq!(value["remote"], "[::1]:80");
        let binary = parsed(&Ended { body: Some(b"\xff\x00"), ..full });
        assert_eq!(binary["body_base64"], "/wA=");
        assert!(binary.get("body").is_none());
    }

    #[test]
    fn a_failure_without_an_answer_has_every_field_too() {
        let (stats, id) = (Stats::default(), Value::from(7));
        let failure = Failure::invalid("unknown field \"x\"".into());
        let value = parsed(&Ended { line: Some(3), failure: Some(&failure), ..ended(&stats, &id) });
        assert_eq!(value["error"]["kind"], "invalid_request");
        assert_eq!((&value["line"], &value["id"]), (&Value::from(3), &id));
        assert!(value["status"].is_null() && value["headers"].as_array().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_utf8_is_latin1_and_a_line_stays_a_line() {
        assert_eq!(text_of(b"caf\xe9"), "caf\u{e9}");
        assert_eq!(text_of("caf\u{e9}".as_bytes()), "caf\u{e9}");
        let (stats, id) = (Stats::default(), Value::Null);
        let mut out = Vec::new();
        let failure = Failure::invalid("two\nlines".into());
        Ended { failure: Some(&failure), line: Some(9), ..ended(&stats, &id) }
            .write_line("list", &mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("list:9") && !line.contains('\u{1b}'), "{line}");
    }
}
