//! What the integration tests talk to: an origin that misbehaves on demand, a DNS server, ports
//! that refuse and ports that swallow. All on loopback, all ended when dropped.
//!
//! Nothing here sleeps: order is made with a [`Latch`], and [`Origin::wait_for`] waits on what
//! the origin has seen.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod authority;
mod certificates;
mod dns;
mod latch;
mod origin;
mod ports;
pub(crate) mod program;
mod proxy;
mod relay;
mod reply;
mod request;
#[cfg(unix)]
mod unix;

pub(crate) use authority::{Authority, Presented};
pub(crate) use certificates::{TlsSetup, ca_der, ca_pem, client_identity, client_identity_with};
pub(crate) use dns::{DnsQuestion, DnsReply, DnsServer, QueryType};
pub(crate) use latch::Latch;
pub(crate) use origin::{Greeting, Handshake, Log, Origin, Setup};
pub(crate) use ports::{Blackhole, blackhole, refused_port};
pub(crate) use proxy::{Asked, ProxyServer, ProxySetup, basic};
pub(crate) use relay::{Relay, Towards};
pub(crate) use reply::{Action, Reply, chunked, ok, redirect, response, status};
pub(crate) use request::Seen;
#[cfg(unix)]
pub(crate) use unix::Door;

/// A request's head, and not a byte that follows it.
pub(crate) fn read_head(stream: &mut impl std::io::Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
