//! Floor 1. What the kernel is told of a socket before it connects, where that is not the usual.
//!
//! In go a TCP socket, where it is to connect, and [`SocketSettings`]; out comes the same socket,
//! or an error that names the setting. Such an error never looks like a want of descriptors or
//! ports, which passes.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Socket, TcpKeepalive};

use crate::socket::SocketSettings;

/// Tells the kernel all that `settings` have to say of TCP.
pub(super) fn apply(socket: &Socket, to: SocketAddr, settings: &SocketSettings) -> io::Result<()> {
    let local = settings.local_for(to).map_err(io::Error::other)?;
    socket.set_tcp_nodelay(settings.no_delay())?;
    if let Some(name) = settings.interface() {
        let bound = bind_device(socket, name);
        bound.map_err(|error| named(format_args!("interface {name}"), &error))?;
    }
    if let Some(ip) = local {
        let bound = socket.bind(&SocketAddr::new(ip, 0).into());
        bound.map_err(|error| named(format_args!("local address {ip}"), &error))?;
    }
    if let Some(keep_alive) = settings.keep_alive() {
        let params = TcpKeepalive::new().with_time(keep_alive.idle);
        let params = params.with_interval(keep_alive.interval).with_retries(keep_alive.probes);
        let told = socket.set_tcp_keepalive(&params);
        told.map_err(|error| named(format_args!("keep-alive probes"), &error))?;
    }
    if settings.user_timeout().is_some() {
        let told = set_user_timeout(socket, settings);
        told.map_err(|error| named(format_args!("TCP_USER_TIMEOUT"), &error))?;
    }
    Ok(())
}

fn named(setting: fmt::Arguments<'_>, error: &io::Error) -> io::Error {
    io::Error::other(format!("{setting}: {error}"))
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn bind_device(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn bind_device(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn set_user_timeout(socket: &Socket, settings: &SocketSettings) -> io::Result<()> {
    socket.set_tcp_user_timeout(settings.user_timeout())
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn set_user_timeout(_: &Socket, _: &SocketSettings) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use socket2::{Domain, Protocol, Type};

    use super::*;

    fn applied(settings: &SocketSettings) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        apply(&socket, (Ipv4Addr::LOCALHOST, 1).into(), settings).map(|()| socket)
    }

    #[test]
    fn the_kernel_has_what_was_said() {
        let second = Duration::from_secs(1);
        let settings = SocketSettings::new()
            .with_local_address([127, 0, 0, 2].into())
            .with_keep_alive(70 * second, 7 * second, 3)
            .with_no_delay(false);
        let socket = applied(&settings).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.ip(), IpAddr::from([127, 0, 0, 2]));
        assert!(socket.keepalive().unwrap() && !socket.tcp_nodelay().unwrap());
        assert!(applied(&SocketSettings::new()).unwrap().tcp_nodelay().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_of_linux_has_the_rest() {
        let second = Duration::from_secs(1);
        let settings = SocketSettings::new()
            .with_keep_alive(70 * second, 7 * second, 3)
            .with_user_timeout(20 * second)
            .with_interface("lo");
        let socket = applied(&settings).unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap(), 70 * second);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), 7 * second);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(20 * second));
        assert_eq!(socket.device().unwrap().unwrap(), b"lo");
    }

    #[test]
    fn what_cannot_be_told_is_named_and_is_no_want_of_ports() {
        for (settings, said) in [
            (SocketSettings::new().with_interface("no-such-0"), "interface no-such-0: "),
            (SocketSettings::new().with_local_address([192, 0, 2, 1].into()), "local address 192."),
            (SocketSettings::new().with_local_address("::1".parse().unwrap()), "other family"),
        ] {
            let error = applied(&settings).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert_eq!((error.raw_os_error(), error.kind()), (None, io::ErrorKind::Other));
        }
    }
}
