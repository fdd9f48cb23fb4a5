//! From the command line to how sockets are made, and which keys servers must have.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use whippet::{MinVersion, Pin, SocketSettings, TlsSettings};

use super::cli::Args;
use super::values::Seconds;

/// How sockets are made.
pub(crate) fn sockets_of(args: &Args) -> SocketSettings {
    let mut sockets = SocketSettings::new().with_no_delay(!args.no_tcp_nodelay);
    if let Some(path) = &args.unix_socket {
        sockets = sockets.with_unix_socket(path);
    }
    for name in &args.interface {
        sockets = match name.parse::<IpAddr>() {
            Ok(address) => sockets.with_local_address(address),
            Err(_) => sockets.with_interface(name),
        };
    }
    if let Some(Seconds(idle)) = args.keepalive_time.filter(|it| it.0 != Duration::MAX) {
        sockets = sockets.with_keep_alive(idle, idle, KEEP_ALIVE_PROBES);
    }
    if let Some(Seconds(timeout)) = args.tcp_user_timeout.filter(|it| it.0 != Duration::MAX) {
        sockets = sockets.with_user_timeout(timeout);
    }
    sockets
}

/// What is asked of servers beside their certificates.
pub(crate) fn demanding(args: &Args, mut tls: TlsSettings) -> Result<TlsSettings, String> {
    if args.tls13 {
        tls = tls.with_min_version(MinVersion::Tls13);
    }
    if let Some(name) = &args.tls_name {
        tls = tls.with_server_name(name);
    }
    for text in args.pinned_keys.iter().flat_map(|text| text.split(';')) {
        let pin = if text.starts_with("sha256//") {
            Pin::new(text).map_err(|error| format!("--pinnedpubkey: {error}"))?
        } else {
            pin_of_file(text.as_ref())?
        };
        tls = tls.add_pin(pin);
    }
    Ok(tls)
}

/// The pin of the public key in a file, in PEM or in DER.
fn pin_of_file(path: &Path) -> Result<Pin, String> {
    let explain =
        |error: &dyn std::fmt::Display| format!("--pinnedpubkey {}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| explain(&error))?;
    let text = String::from_utf8_lossy(&bytes);
    let der = match text.split_once("-----BEGIN PUBLIC KEY-----") {
        Some((_, rest)) => {
            let base64 = rest.split("-----END").next().unwrap_or_default();
            let base64: String = base64.split_whitespace().collect();
            BASE64.decode(base64).map_err(|error| explain(&error))?
        }
        // A SEQUENCE; anything else, as a certificate's PEM, would only never fit.
        None if bytes.starts_with(&[0x30]) => bytes,
        None => return Err(explain(&"no PUBLIC KEY in PEM or DER")),
    };
    Ok(Pin::of_sha256(Sha256::digest(&der).into()))
}

/// As with curl.
const KEEP_ALIVE_PROBES: u32 = 9;
