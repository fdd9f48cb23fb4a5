//! Options: on which way a server is reached, and how it proves who it is.

use super::super::super::values;
use super::super::option::{Group, any, flag, more, one, path, value};

pub(super) const WAY: Group = Group {
    heading: "How to get there",
    apart: &[],
    options: &[
        value(
            &["x", "proxy"],
            "URL",
            "The proxy: http, https, socks4, socks4a, socks5 or socks5h; empty for none [default: \
             what http_proxy, https_proxy, all_proxy and no_proxy say]",
            |args, given| one(&mut args.proxy, given, values::proxy),
        )
        .secret()
        .apart(&["demo"]),
        flag(
            &["proxy-digest"],
            "Give the login in a proxy's URL in answer to its Digest challenge, and never as it is",
            |args| args.proxy_digest = true,
        ),
        value(
            &["resolve"],
            "HOST:PORT:ADDR",
            "Connect to ADDR where a URL says HOST and PORT; may be given again",
            |args, given| more(&mut args.resolve, given, values::resolve),
        )
        .repeats(),
        value(
            &["connect-to"],
            "HOST1:PORT1:HOST2:PORT2",
            "Connect to HOST2 and PORT2 where a URL says HOST1 and PORT1, each of which may be \
             empty; may be given again",
            |args, given| more(&mut args.connect_to, given, values::connect_to),
        )
        .repeats(),
        value(
            &["unix-socket"],
            "PATH",
            "Connect to the socket at PATH, whatever host a URL says",
            |args, given| path(&mut args.unix_socket, given),
        )
        .apart(&["demo", "proxy", "deny-private"]),
        value(
            &["interface"],
            "NAME|ADDR",
            "Connect through this network interface, or from this address; may be given again",
            |args, given| more(&mut args.interface, given, any),
        )
        .repeats(),
        value(
            &["keepalive-time"],
            "SECONDS",
            "Have silent connections probed after and every SECONDS, nine times [default: never]",
            |args, given| one(&mut args.keepalive_time, given, values::seconds),
        ),
        value(
            &["tcp-user-timeout"],
            "SECONDS",
            "Give up connections where nothing is acknowledged for SECONDS [default: the system's]",
            |args, given| one(&mut args.tcp_user_timeout, given, values::seconds),
        ),
        flag(&["no-tcp-nodelay"], "Let the kernel gather small writes", |args| {
            args.no_tcp_nodelay = true;
        }),
        value(
            &["dns-servers"],
            "ADDR[:PORT],…",
            "Name servers to ask in place of the system's",
            |args, given| one(&mut args.dns_servers, given, values::servers),
        ),
        flag(
            &["deny-private"],
            "Connect to no private, loopback, link-local or otherwise special address, at any \
             redirect",
            |args| args.deny_private = true,
        )
        .apart(&["demo"]),
    ],
};

pub(super) const TLS: Group = Group {
    heading: "TLS",
    apart: &["demo"],
    options: &[
        value(
            &["cacert"],
            "FILE",
            "Trust the certificate authorities in FILE (PEM) in place of the web's",
            |args, given| path(&mut args.cacert, given),
        ),
        flag(
            &["native-roots"],
            "Trust what the operating system trusts in place of the web's authorities, beside \
             --cacert",
            |args| args.native_roots = true,
        ),
        value(&["E", "cert"], "FILE", "A certificate to show to servers (PEM)", |args, given| {
            path(&mut args.cert, given)
        }),
        value(
            &["key"],
            "FILE",
            "Its private key (PEM) [default: in the certificate's file]",
            |args, given| path(&mut args.key, given),
        )
        .needs("cert"),
        flag(
            &["k", "insecure"],
            "Accept any certificate: anyone in between can read and change everything",
            |args| args.insecure = true,
        ),
        value(
            &["pinnedpubkey"],
            "HASHES|FILE",
            "The public key that servers must have: sha256//BASE64 of it, several with ; between \
             them, or a file with one (PEM or DER)",
            |args, given| one(&mut args.pinned_keys, given, any),
        ),
        value(
            &["tls-name"],
            "NAME",
            "Ask for, and verify, this name in place of the URL's host",
            |args, given| one(&mut args.tls_name, given, any),
        ),
        flag(&["tlsv1.2"], "TLS 1.2 or later: the default", |args| args.tls12 = true),
        flag(&["tlsv1.3"], "TLS 1.3 or later", |args| args.tls13 = true),
    ],
};
