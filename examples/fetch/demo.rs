//! `--demo`: fetches from an origin inside the process, built to answer in every way that an
//! origin can, and the account of whether each endpoint ended as it was built to end.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use whippet::{Error, Request, Resolve, Roots, Settings, TlsSettings};

use super::jobs::{Defaults, Failure, Job};
use super::origin::{BAD_CERTIFICATE_HOST, HOST, Origin};
use super::record::Ended;

/// The demo's jobs and their account.
pub(crate) struct Demo {
    pub(crate) jobs: Box<dyn Iterator<Item = Job>>,
    pub(crate) ledger: Box<Ledger>,
}

impl Demo {
    /// Starts the origin, and points `settings` to it.
    pub(crate) fn start(
        fetches: u64,
        defaults: &Defaults,
        settings: &mut Settings,
    ) -> Result<Self, String> {
        let origin = Origin::start().map_err(|error| format!("the demo's origin: {error}"))?;
        let tls = TlsSettings::new().with_roots(Roots::OnlyAdded);
        settings.tls = Arc::new(tls.add_ca_pem(origin.authority_pem.clone().into_bytes()));
        for (host, port) in [
            (HOST, origin.plain_port),
            (HOST, origin.tls_port),
            (HOST, origin.refusing_port),
            (BAD_CERTIFICATE_HOST, origin.tls_port),
        ] {
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            settings.resolve.push(Resolve { host: host.to_owned(), port, address });
        }
        let collect = defaults.collect;
        let fetches = usize::try_from(fetches).map_err(|_| "--demo: too many".to_owned())?;
        let jobs = (0..fetches).map(move |nth| {
            let endpoint = &ENDPOINTS[nth % ENDPOINTS.len()];
            let url = endpoint.url(&origin, nth);
            let request = endpoint.request(&url, collect);
            let request = request.map_err(|error| Failure::from(&error));
            Job { id: Some(endpoint.name.into()), url: Some(url.into()), request }
        });
        Ok(Self { jobs: Box::new(jobs), ledger: Box::default() })
    }
}

/// Endpoint by endpoint, how its fetches ended.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: [Entry; ENDPOINTS.len()],
}

#[derive(Clone, Debug, Default)]
struct Entry {
    ended: u64,
    as_built: u64,
    slowest: Duration,
    /// How the first one ended that did not end as it was built to.
    astray: Option<String>,
}

impl Ledger {
    /// Jobs go round the endpoints by their number.
    pub(crate) fn receive(&mut self, ended: &Ended<'_>) {
        let nth = usize::try_from(ended.n.saturating_sub(1)).unwrap_or(0) % ENDPOINTS.len();
        let entry = &mut self.entries[nth];
        entry.ended += 1;
        entry.slowest = entry.slowest.max(ended.stats.timings.total);
        if ENDPOINTS[nth].built.matches(ended) {
            entry.as_built += 1;
        } else {
            entry.astray.get_or_insert_with(|| match (ended.failure, ended.answer) {
                (Some(failure), _) => format!("{}: {}", failure.kind, failure.message),
                (None, _) => format!(
                    "status {}, {} B, {} attempts, {} redirects",
                    ended.status(),
                    ended.bytes,
                    ended.stats.attempts,
                    ended.stats.redirects
                ),
            });
        }
    }

    /// Whether every fetch ended as its endpoint was built.
    pub(crate) fn is_as_built(&self) -> bool {
        self.entries.iter().all(|entry| entry.as_built == entry.ended)
    }

    /// A line for each endpoint.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "  {:<17} {:<51} {:>7} {:>8} {:>11}\n",
            "endpoint", "built to end with", "fetched", "as built", "slowest"
        );
        for (endpoint, entry) in ENDPOINTS.iter().zip(&self.entries) {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "  {:<17} {:<51} {:>7} {:>8} {:>8.1} ms",
                endpoint.name,
                endpoint.does,
                entry.ended,
                entry.as_built,
                entry.slowest.as_secs_f64() * 1e3
            );
            if let Some(astray) = &entry.astray {
                let _ = writeln!(text, "  {:<17} but one ended with {astray}", "");
            }
        }
        let verdict = if self.is_as_built() {
            "every endpoint ended as it was built to end"
        } else {
            "NOT every endpoint ended as it was built to end"
        };
        text + "  " + verdict + "\n"
    }
}

#[derive(Clone, Copy)]
struct Endpoint {
    name: &'static str,
    does: &'static str,
    door: Door,
    path: &'static str,
    tune: fn(Request) -> Result<Request, Error>,
    built: Built,
}

/// Where an endpoint is reached.
#[derive(Clone, Copy)]
enum Door {
    Plain,
    Tls,
    BadCertificate,
    Refusing,
}

/// How an endpoint's fetches end.
#[derive(Clone, Copy)]
enum Built {
    Answer {
        status: u16,
        bytes: u64,
    },
    /// The same after more than one attempt.
    Retried {
        bytes: u64,
    },
    /// The same after this many redirects.
    Redirected {
        bytes: u64,
        redirects: u32,
    },
    Failure(&'static str),
}

impl Built {
    fn matches(self, ended: &Ended<'_>) -> bool {
        let is = |status, bytes| {
            ended.failure.is_none() && ended.status() == status && ended.bytes == bytes
        };
        match self {
            Self::Answer { status, bytes } => is(status, bytes),
            Self::Retried { bytes } => is(200, bytes) && ended.stats.attempts > 1,
            Self::Redirected { bytes, redirects } => {
                is(200, bytes) && ended.stats.redirects == redirects
            }
            Self::Failure(kind) => ended.failure.is_some_and(|failure| failure.kind == kind),
        }
    }
}

impl Endpoint {
    fn url(&self, origin: &Origin, nth: usize) -> String {
        let (scheme, host, port) = match self.door {
            Door::Plain => ("http", HOST, origin.plain_port),
            Door::Tls => ("https", HOST, origin.tls_port),
            Door::BadCertificate => ("https", BAD_CERTIFICATE_HOST, origin.tls_port),
            Door::Refusing => ("http", HOST, origin.refusing_port),
        };
        format!("{scheme}://{host}:{port}{}?{nth}", self.path)
    }

    /// Nothing is retried but what is built for it.
    fn request(&self, url: &str, collect: bool) -> Result<Request, Error> {
        let method = if self.path == "/echo" { "POST" } else { "GET" };
        let request = Request::new(method, url)?.retries(0).timeout(AMPLE);
        Ok((self.tune)(request)?.collect(collect))
    }
}

const fn endpoint(
    name: &'static str,
    does: &'static str,
    (door, path): (Door, &'static str),
    built: Built,
) -> Endpoint {
    Endpoint { name, does, door, path, tune: Ok, built }
}

const fn tuned(endpoint: Endpoint, tune: fn(Request) -> Result<Request, Error>) -> Endpoint {
    Endpoint { tune, ..endpoint }
}

const ENDPOINTS: [Endpoint; 27] = [
    endpoint(
        "fast",
        "200, 1 KiB, keep-alive",
        (Door::Plain, "/fast"),
        Built::Answer { status: 200, bytes: 1_024 },
    ),
    endpoint(
        "fast, TLS",
        "200, 1 KiB, keep-alive over TLS",
        (Door::Tls, "/fast"),
        Built::Answer { status: 200, bytes: 1_024 },
    ),
    endpoint(
        "large, TLS",
        "200, 1 MiB over TLS",
        (Door::Tls, "/large"),
        Built::Answer { status: 200, bytes: 1 << 20 },
    ),
    endpoint(
        "empty",
        "204, without a body",
        (Door::Plain, "/empty"),
        Built::Answer { status: 204, bytes: 0 },
    ),
    endpoint(
        "missing",
        "404: an answer like any other",
        (Door::Plain, "/missing"),
        Built::Answer { status: 404, bytes: 9 },
    ),
    tuned(
        endpoint(
            "echo",
            "200, the request's body of 64 KiB",
            (Door::Plain, "/echo"),
            Built::Answer { status: 200, bytes: 65_536 },
        ),
        |request| Ok(request.body(vec![b'e'; 65_536])),
    ),
    endpoint(
        "slow",
        "200, five pieces 40 ms apart",
        (Door::Plain, "/slow"),
        Built::Answer { status: 200, bytes: 500 },
    ),
    tuned(
        endpoint(
            "flaky",
            "503 once, then 200: retried",
            (Door::Plain, "/flaky"),
            Built::Retried { bytes: 5 },
        ),
        |request| Ok(request.retries(3)),
    ),
    tuned(
        endpoint(
            "rate-limited",
            "429 with Retry-After: 1, then 200: retried",
            (Door::Plain, "/limited"),
            Built::Retried { bytes: 7 },
        ),
        |request| Ok(request.retries(3)),
    ),
    endpoint(
        "redirecting",
        "302, 301 (relative) and 307, then 200",
        (Door::Plain, "/redirect/3"),
        Built::Redirected { bytes: 1_024, redirects: 3 },
    ),
    endpoint(
        "redirecting, TLS",
        "302, 301 (relative) and 307, then 200, over TLS",
        (Door::Tls, "/redirect/3"),
        Built::Redirected { bytes: 1_024, redirects: 3 },
    ),
    endpoint(
        "looping",
        "redirect: it leads to itself",
        (Door::Plain, "/loop"),
        Built::Failure("redirect"),
    ),
    endpoint(
        "chunked",
        "200, three chunks and a trailer",
        (Door::Plain, "/chunked"),
        Built::Answer { status: 200, bytes: 3_000 },
    ),
    endpoint(
        "chunked, TLS",
        "200, three chunks and a trailer over TLS",
        (Door::Tls, "/chunked"),
        Built::Answer { status: 200, bytes: 3_000 },
    ),
    tuned(
        endpoint(
            "compressed",
            "200, gzip: 762 B on the wire, 2,894 B decoded",
            (Door::Plain, "/gzip"),
            Built::Answer { status: 200, bytes: 2_894 },
        ),
        |request| Ok(request.decode(true)),
    ),
    tuned(
        endpoint(
            "compressed, TLS",
            "200, br: 478 B on the wire, 2,894 B decoded",
            (Door::Tls, "/br"),
            Built::Answer { status: 200, bytes: 2_894 },
        ),
        |request| Ok(request.decode(true)),
    ),
    tuned(
        endpoint(
            "corrupt",
            "decode: half of a gzip file, announced as all of it",
            (Door::Plain, "/half-gzip"),
            Built::Failure("decode"),
        ),
        |request| Ok(request.decode(true)),
    ),
    endpoint(
        "closing",
        "200, Connection: close",
        (Door::Plain, "/closing"),
        Built::Answer { status: 200, bytes: 7 },
    ),
    endpoint(
        "until close",
        "200, HTTP/1.0, as long as the connection lasts",
        (Door::Plain, "/until-close"),
        Built::Answer { status: 200, bytes: 2_000 },
    ),
    endpoint(
        "truncating",
        "closed: half of its Content-Length",
        (Door::Plain, "/truncated"),
        Built::Failure("closed"),
    ),
    endpoint(
        "truncating, TLS",
        "closed: ends without close_notify",
        (Door::Tls, "/cut-off"),
        Built::Failure("closed"),
    ),
    tuned(
        endpoint(
            "silent",
            "timeout: never answers",
            (Door::Plain, "/silent"),
            Built::Failure("timeout"),
        ),
        |request| Ok(request.timeout(SHORT)),
    ),
    tuned(
        endpoint(
            "stalling",
            "timeout: stops in the middle of its body",
            (Door::Plain, "/stalling"),
            Built::Failure("timeout"),
        ),
        |request| Ok(request.timeout(SHORT)),
    ),
    endpoint(
        "malformed",
        "malformed: a status line that is none",
        (Door::Plain, "/malformed"),
        Built::Failure("malformed"),
    ),
    tuned(
        endpoint(
            "oversized",
            "too_large: 1 MiB where 64 KiB are allowed",
            (Door::Plain, "/large"),
            Built::Failure("too_large"),
        ),
        |request| Ok(request.body_bytes_max(65_536)),
    ),
    endpoint(
        "refusing",
        "connect: nobody listens",
        (Door::Refusing, "/"),
        Built::Failure("connect"),
    ),
    endpoint(
        "bad certificate",
        "certificate: of another authority",
        (Door::BadCertificate, "/fast"),
        Built::Failure("certificate"),
    ),
];

/// For what is built to be silent.
const SHORT: Duration = Duration::from_millis(300);
/// For what is built to end by itself, on a busy machine.
const AMPLE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use whippet::Stats;

    #[test]
    fn an_endpoint_that_ends_otherwise_is_named() {
        let (mut ledger, stats) = (Ledger::default(), Stats::default());
        let refusing = ENDPOINTS.iter().position(|e| e.name == "refusing").unwrap() as u64;
        let failure = |kind| Failure { kind, phase: "connect", message: "why".into() };
        let mut receive = |n, failure: &Failure| {
            let failure = Some(failure);
            let ended = Ended {
                n,
                id: None,
                url: None,
                line: None,
                answer: None,
                trailers: &[],
                body: None,
                bytes: 0,
                stats: &stats,
                failure,
            };
            ledger.receive(&ended);
            ledger.is_as_built()
        };
        assert!(receive(refusing + 1, &failure("connect")));
        assert!(receive(refusing + 1 + ENDPOINTS.len() as u64, &failure("connect")));
        assert!(!receive(refusing + 1, &failure("timeout")));
        assert!(ledger.table().contains("but one ended with timeout: why"));
    }
}
