//! Sockets as requests have them made, and what the kernel refuses of them: over paths of the file
//! system, from addresses, through interfaces, with options.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use whippet::SocketSettings;

use super::random::Random;

/// How the sockets of a request are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Made {
    /// A path at which a front listens.
    Path(usize),
    NoSuchPath,
    ForbiddenPath,
    /// From addresses that the machine has.
    From(u8),
    /// From an address that it has not.
    FromNowhere,
    FromV6,
    Interface,
    NoSuchInterface,
    KeepAlive,
    UserTimeout,
    Delay,
}

impl Made {
    pub(crate) fn any(random: &mut Random) -> Self {
        *random.pick(&[
            Self::Path(0),
            Self::Path(1),
            Self::NoSuchPath,
            Self::ForbiddenPath,
            Self::From(1),
            Self::From(2),
            Self::FromNowhere,
            Self::FromV6,
            Self::Interface,
            Self::NoSuchInterface,
            Self::KeepAlive,
            Self::UserTimeout,
            Self::Delay,
        ])
    }

    pub(crate) fn settings(self) -> SocketSettings {
        let new = SocketSettings::new();
        let second = Duration::from_secs(1);
        match self {
            Self::Path(nth) => new.with_unix_socket(PATHS[nth]),
            Self::NoSuchPath => new.with_unix_socket("/run/none"),
            Self::ForbiddenPath => new.with_unix_socket(FORBIDDEN_PATH),
            Self::From(last) => {
                new.with_local_address(local_v4(last)).with_local_address(local_v6(last))
            }
            Self::FromNowhere => {
                new.with_local_address(local_v4(9)).with_local_address(local_v6(9))
            }
            Self::FromV6 => new.with_local_address(local_v6(1)),
            Self::Interface => new.with_interface(INTERFACE),
            Self::NoSuchInterface => new.with_interface("none0"),
            Self::KeepAlive => new.with_keep_alive(60 * second, second, 3),
            Self::UserTimeout => new.with_user_timeout(20 * second),
            Self::Delay => new.with_no_delay(false),
        }
    }

    /// No such socket is ever made.
    pub(crate) fn is_doomed(self) -> bool {
        let paths = [Self::NoSuchPath, Self::ForbiddenPath];
        paths.contains(&self) || matches!(self, Self::FromNowhere | Self::NoSuchInterface)
    }

    pub(crate) fn is_path(self) -> bool {
        matches!(self, Self::Path(_) | Self::NoSuchPath | Self::ForbiddenPath)
    }
}

pub(crate) fn path_at(path: &Path) -> Option<usize> {
    PATHS.iter().position(|known| path == Path::new(known))
}

/// What the kernel refuses of a path.
pub(crate) fn refusal_of_path(path: &Path) -> Option<io::Error> {
    let errno = if path == Path::new(FORBIDDEN_PATH) { EACCES } else { ENOENT };
    path_at(path).is_none().then(|| io::Error::from_raw_os_error(errno))
}

/// What it refuses of a socket to an address, in the order in which it is told.
pub(crate) fn refusal_of(to: SocketAddr, sockets: &SocketSettings) -> Option<io::Error> {
    let locals: Vec<IpAddr> = sockets.local_addresses().collect();
    let local = locals.iter().find(|local| local.is_ipv4() == to.is_ipv4());
    let what = match (local, sockets.interface()) {
        (None, _) if !locals.is_empty() => "the local address is of the other family",
        (_, Some(name)) if name != INTERFACE => "interface: no such device",
        (Some(ip), _) if !is_local(*ip) => "local address: cannot be assigned",
        _ => return None,
    };
    Some(io::Error::other(what))
}

fn local_v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, last).into()
}

fn local_v6(last: u8) -> IpAddr {
    Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, last.into()).into()
}

/// The machine has these.
fn is_local(ip: IpAddr) -> bool {
    (1..=2).any(|last| ip == local_v4(last) || ip == local_v6(last))
}

const PATHS: [&str; 2] = ["/run/front.sock", "/run/other.sock"];
const FORBIDDEN_PATH: &str = "/root/front.sock";
const INTERFACE: &str = "eth0";
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
