//! whippet: a single-threaded, event-loop HTTP/1.1 fetcher.
//!
//! # The one law
//!
//! **Drain [`next_event`](Reactor::next_event) until `None`, then [`wait`](Reactor::wait).**
//! Only `wait` sleeps; calling it early loses nothing. A whole program is that loop:
//!
//! ```
//! use whippet::{Event, Reactor, Request, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::io::{Read, Write};
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("http://{}/", listener.local_addr()?);
//! # std::thread::spawn(move || {
//! #     for stream in listener.incoming() {
//! #         let mut stream = stream.unwrap();
//! #         let _ = stream.read(&mut [0; 4096]);
//! #         let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
//! #         let _ = stream.write_all(&[head, b"hello".as_slice()].concat());
//! #     }
//! # });
//! # let mut bytes = 0;
//! let mut reactor = Reactor::new(Settings::default())?;
//! for tag in 0..10 {
//!     reactor.submit(Request::get(&url)?.tag(tag))?;
//! }
//! while reactor.pending() > 0 {
//!     reactor.wait(None)?;
//!     while let Some(event) = reactor.next_event() {
//!         match event {
//!             Event::Head { tag, head, .. } => println!("{tag}: {}", head.status()),
//!             Event::Body { tag, chunk, .. } => {
//! #               bytes += chunk.len();
//!                 println!("{tag}: {} bytes", chunk.len());
//!             }
//!             Event::Done { tag, stats, .. } => println!("{tag}: {:?}", stats.timings.total),
//!             Event::Failed { tag, error, .. } => println!("{tag}: {error}"),
//!             _ => {}
//!         }
//!     }
//! }
//! # assert_eq!(bytes, 50);
//! # Ok(())
//! # }
//! ```
//!
//! Heads and pieces of bodies are lent from the reactor's buffers until its next mutating call.
//! Every fetch that is not cancelled ends with exactly one `Done` or `Failed`, and no failure
//! touches another fetch.
//!
//! # Whole answers
//!
//! [`Client`] is the same for those who want answers rather than events: one
//! ([`get`](Client::get)), many in order with errors in their places
//! ([`gather`](Client::gather)), as they complete from an iterator that may be endless
//! ([`as_completed`](Client::as_completed)), or while new URLs are found
//! ([`submit`](Client::submit), [`next_completed`](Client::next_completed)). And one that is not
//! whole: what [`stream`](Client::stream) gives is read and written piece by piece, and upgraded.
//!
//! # Three nouns
//!
//! - A **fetch** is what was asked for. It survives redirects and retries, and ends once. Its
//!   name is a [`FetchId`]; your own number for it is the [tag](Request::tag).
//! - An **exchange** is one request and its response on the wire. A fetch makes one or more:
//!   [`Stats`] counts them.
//! - A **connection** is one socket, with its TLS session. It carries exchanges one at a time, for
//!   requests that agree on scheme, host, port, where they are led instead, address override,
//!   `deny_private`, proxy, socket settings and TLS settings.
//!
//! # Where to look
//!
//! - [`Request`] says what to fetch, [`Settings`] how, [`TlsSettings`] whom to trust.
//! - [`Limit`] lists the limits of time, [`Timeouts`] their defaults; an [`Error`] says which
//!   one fired, where, and after how many attempts.
//! - [`Reactor`] tells how to nest it in an event loop of your own.
//! - [`Trace`] is told of each step, where [somebody watches](Reactor::traced).
//! - [`net`] is the outside world as a trait, for simulated networks.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::exhaustive_enums)]

mod body;
mod client;
mod close;
mod coding;
mod detour;
mod error;
mod field;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hedge;
#[cfg(feature = "json")]
mod json;
mod kit;
pub mod net;
mod origin;
mod pace;
mod policy;
mod proxy;
mod reactor;
mod request;
mod response;
mod settings;
mod socket;
#[cfg(test)]
mod states;
mod trace;
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "read by TLS only"))]
mod trust;
mod userinfo;
mod wire;

pub use body::Body;
pub use body::multipart::{Multipart, Part};
pub use client::stream::Stream;
pub use client::{AsCompleted, Client, Completed};
pub use close::CloseReason;
pub use coding::Coding;
pub use detour::ConnectTo;
pub use error::{Error, Kind, Limit, Phase, Tried};
pub use hedge::{Hedge, Hedges};
pub use pace::{Circuit, Pace, Rate};
pub use policy::cookies::{Cookie, CookieJar, CookieRefusal, SameSite};
pub use policy::redirect::Refusal;
pub use proxy::{Proxies, Proxy, ProxyProtocol};
pub use reactor::{BodyRefused, Event, FetchId, Full, Reactor};
pub use request::{IntoRequest, Request};
pub use response::{Head, Headers, Hop, Response, Stats, Timings};
pub use settings::{Resolve, ResolverChoice, Settings, Timeouts};
pub use socket::{Peer, SocketSettings};
pub use trace::{Because, NOT_SHOWN, SentHead, Step, Trace, TraceEvent, TracedSocket};
pub use trust::{MinVersion, Pin, Roots, TlsSettings};
pub use userinfo::netrc::{Netrc, NetrcError};
pub use wire::dns::DnsError;
#[cfg(feature = "tls")]
pub use wire::tls::rustls;
pub use {http, url};

/// Has the doc tests compile the programs in README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
