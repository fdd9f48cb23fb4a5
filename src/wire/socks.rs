//! Floor 1. SOCKS 5 (RFC 1928, with the user names of RFC 1929), SOCKS 4 and 4a: their messages.
//!
//! In go an origin, by name or by address, and what the proxy says, in any pieces; out come the
//! bytes to send and, once, that the tunnel is there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::tunnel::TunnelError;
use crate::origin::Origin;
use crate::userinfo::Userinfo;

/// A SOCKS 5 negotiation.
#[derive(Clone)]
pub(crate) struct Socks5 {
    stage: Stage,
    /// RFC 1929's message; empty: no user name is offered.
    credentials: Vec<u8>,
    request: Vec<u8>,
    carry: Vec<u8>,
}

/// The message that is waited for.
#[derive(Clone, Copy)]
enum Stage {
    Method,
    Credentials,
    Reply,
}

impl Socks5 {
    /// `address` goes before the origin's name.
    pub(super) fn new(
        origin: &Origin,
        address: Option<IpAddr>,
        credentials: Option<&Userinfo>,
    ) -> Result<Self, Refusal> {
        let mut request = vec![VERSION_5, CONNECT, 0];
        match address.or(origin.literal) {
            Some(IpAddr::V4(ip)) => {
                request.push(IPV4);
                request.extend(ip.octets());
            }
            Some(IpAddr::V6(ip)) => {
                request.push(IPV6);
                request.extend(ip.octets());
            }
            None => {
                request.extend([NAME, u8::try_from(origin.host.len()).map_err(|_| Refusal::Name)?]);
                request.extend_from_slice(origin.host.as_bytes());
            }
        }
        request.extend(origin.port.to_be_bytes());
        let credentials = credentials.map_or_else(Vec::new, |Userinfo { user, password }| {
            // Both were checked to fit.
            let length = |text: &[u8]| u8::try_from(text.len()).unwrap_or(u8::MAX);
            [&[1, length(user)][..], user, &[length(password)], password].concat()
        });
        Ok(Self { stage: Stage::Method, credentials, request, carry: Vec::new() })
    }

    pub(super) fn start(&self, out: &mut Vec<u8>) {
        if self.credentials.is_empty() {
            out.extend([VERSION_5, 1, NO_CREDENTIALS]);
        } else {
            out.extend([VERSION_5, 2, NO_CREDENTIALS, USER_AND_PASSWORD]);
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, TunnelError> {
        self.carry.extend_from_slice(bytes);
        loop {
            let used = match (self.stage, &self.carry[..]) {
                (Stage::Method, [VERSION_5, method, ..]) => {
                    self.stage = match *method {
                        NO_CREDENTIALS => Stage::Reply,
                        USER_AND_PASSWORD if !self.credentials.is_empty() => Stage::Credentials,
                        _ => return Err(Refusal::Method.into()),
                    };
                    out.extend_from_slice(match self.stage {
                        Stage::Credentials => &self.credentials,
                        _ => &self.request,
                    });
                    2
                }
                (Stage::Credentials, [_, 0, ..]) => {
                    self.stage = Stage::Reply;
                    out.extend_from_slice(&self.request);
                    2
                }
                (Stage::Credentials, [_, _, ..]) => return Err(TunnelError::CredentialsRefused),
                (Stage::Reply, _) => return self.reply(),
                (Stage::Method, [other, ..]) if *other != VERSION_5 => {
                    return Err(Refusal::Other.into());
                }
                _ => return Ok(false),
            };
            self.carry.drain(..used);
        }
    }

    /// The last message: how it went, and an address, which tells nobody anything.
    fn reply(&self) -> Result<bool, TunnelError> {
        let (code, address) = match self.carry[..] {
            [] | [VERSION_5] => return Ok(false),
            [VERSION_5, 0, _, IPV4, ..] => (0, 4),
            [VERSION_5, 0, _, IPV6, ..] => (0, 16),
            [VERSION_5, 0, _, NAME, length, ..] => (0, 1 + usize::from(length)),
            [VERSION_5, 0] | [VERSION_5, 0, _] | [VERSION_5, 0, _, NAME] => return Ok(false),
            [VERSION_5, 0, ..] => return Err(Refusal::Other.into()),
            // Whatever follows a refusal, it is one.
            [VERSION_5, code, ..] => (code, 0),
            _ => return Err(Refusal::Other.into()),
        };
        if code != 0 {
            return Err(Refusal::Code5(code).into());
        }
        ended(self.carry.len(), 4 + address + 2)
    }
}

/// A SOCKS 4 or 4a request and its answer.
#[derive(Clone)]
pub(crate) struct Socks4 {
    request: Vec<u8>,
    carry: Vec<u8>,
}

impl Socks4 {
    /// By `address`, or by name (4a) where there is none.
    pub(super) fn new(
        origin: &Origin,
        address: Option<IpAddr>,
        credentials: Option<&Userinfo>,
    ) -> Result<Self, Refusal> {
        let (ip, name) = match address.or(origin.literal) {
            Some(IpAddr::V4(ip)) => (ip, None),
            Some(IpAddr::V6(_)) => return Err(Refusal::Ipv6),
            None if origin.host.len() > NAME_BYTES_MAX => return Err(Refusal::Name),
            None => (BY_NAME, Some(&*origin.host)),
        };
        let mut request = vec![VERSION_4, CONNECT];
        request.extend(origin.port.to_be_bytes());
        request.extend(ip.octets());
        request.extend_from_slice(credentials.map_or(&[][..], |it| &it.user));
        request.push(0);
        if let Some(name) = name {
            request.extend_from_slice(name.as_bytes());
            request.push(0);
        }
        Ok(Self { request, carry: Vec::new() })
    }

    pub(super) fn start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<bool, TunnelError> {
        self.carry.extend_from_slice(bytes);
        match self.carry[..] {
            [] | [0] => Ok(false),
            [0, GRANTED, ..] => ended(self.carry.len(), 8),
            [0, code, ..] => Err(Refusal::Code4(code).into()),
            _ => Err(Refusal::Other.into()),
        }
    }
}

/// Whether the last message is there, and nothing behind it.
fn ended(have: usize, whole: usize) -> Result<bool, TunnelError> {
    if have > whole { Err(TunnelError::Overrun) } else { Ok(have == whole) }
}

/// What SOCKS refuses with, or cannot say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// No way to say who asks that both know.
    Method,
    /// The REP field of a reply (RFC 1928 §6).
    Code5(u8),
    /// The second byte of SOCKS 4's reply.
    Code4(u8),
    /// What came is no SOCKS.
    Other,
    /// SOCKS 4 has no room for such an address.
    Ipv6,
    /// A host name of more than 255 bytes.
    Name,
}

impl Refusal {
    /// Whether another attempt may well end otherwise.
    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::Code5(1 | 3..=6) | Self::Code4(91))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Method => "it takes none of the ways to say who asks",
            Self::Code5(1) => "it failed",
            Self::Code5(2) => "it is not allowed by its rules",
            Self::Code5(3) => "it cannot reach the network",
            Self::Code5(4) => "it cannot reach the host",
            Self::Code5(5) => "the origin refused the connection",
            Self::Code5(6) => "the TTL expired",
            Self::Code5(7) => "it does not know the command",
            Self::Code5(8) => "it does not know this kind of address",
            Self::Code5(code) | Self::Code4(code @ (0..=90 | 94..)) => {
                return write!(f, "it answered with code {code}");
            }
            Self::Code4(91) => "it rejected the request, or failed",
            Self::Code4(92) => "it asks for an identd that answers for the user",
            Self::Code4(93) => "identd names another user",
            Self::Other => "what it answered is no SOCKS",
            Self::Ipv6 => "SOCKS 4 cannot name an IPv6 address",
            Self::Name => "the host's name is longer than the 255 bytes that SOCKS can name",
        };
        f.write_str(what)
    }
}

const VERSION_4: u8 = 4;
const VERSION_5: u8 = 5;
/// The command.
const CONNECT: u8 = 1;
const NO_CREDENTIALS: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
/// Kinds of address.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// SOCKS 4's "yes".
const GRANTED: u8 = 90;
/// SOCKS 4a: an address of 0.0.0.x says that a name follows.
const BY_NAME: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);
const NAME_BYTES_MAX: usize = 255;
