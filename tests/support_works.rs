//! The test support itself, over the standard library's sockets: what the other tests lean on.

mod support;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{
    Action, DnsReply, DnsServer, Latch, Origin, QueryType, Reply, Setup, TlsSetup, blackhole,
    ca_der, ca_pem, chunked, client_identity, ok, redirect, refused_port, status,
};

fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// Sends a request for `target` and reads exactly `expected`.
fn exchange(socket: &mut (impl Read + Write), target: &str, expected: &str) {
    socket.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut got = vec![0; expected.len()];
    socket.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), expected);
}

const OK_HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn requests_are_answered_and_logged() {
    let origin = Origin::plain(|seen| match seen.target.as_str() {
        "/chunked" => chunked(&["ab", "", "c"]),
        "/redirect" => redirect(302, "/next"),
        "/status" => status(204),
        _ => ok("hi"),
    });
    let mut socket = connect(origin.address());
    exchange(&mut socket, "/", OK_HI);
    let body = "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    exchange(&mut socket, "/chunked", &format!("HTTP/1.1 200 OK\r\n{body}"));
    let head = "HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n";
    exchange(&mut socket, "/redirect", head);
    exchange(&mut socket, "/status", "HTTP/1.1 204 No Content\r\n\r\n");
    let mut second = connect(origin.address());
    let request = "PUT /body HTTP/1.1\r\nHost: a\r\nX-Case: 1\r\nContent-Length: 3\r\n";
    second.write_all(format!("{request}Connection: close\r\n\r\nabc").as_bytes()).unwrap();
    let mut all = String::new();
    second.read_to_string(&mut all).unwrap();
    assert_eq!(all, OK_HI);

    let log = origin.wait_for(|log| log.open == 1);
    assert_eq!((log.connections, log.open_max, origin.connections()), (2, 2, 2));
    let places: Vec<_> = log.requests.iter().map(|seen| (seen.connection, seen.nth)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]);
    let last = &origin.requests()[4];
    assert_eq!((last.method.as_str(), last.target.as_str()), ("PUT", "/body"));
    assert_eq!((last.header("x-case"), last.body.as_slice()), (Some("1"), &b"abc"[..]));
    assert!(last.head.ends_with(b"close\r\n\r\n"));
    assert_eq!(origin.url("/x"), format!("http://127.0.0.1:{}/x", origin.port()));
}

#[test]
fn bad_requests_are_noted() {
    let origin = Origin::plain(|_| ok(""));
    for request in ["GET /\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET"] {
        let mut socket = connect(origin.address());
        socket.write_all(request.as_bytes()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        socket.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!(origin.wait_for(|log| log.malformed.len() == 3).requests, []);
}

#[test]
fn scripts_wait_reset_and_close() {
    let (here, go) = (Latch::new(), Latch::new());
    let (reached, released) = (here.clone(), go.clone());
    let origin = Origin::plain(move |seen| match seen.target.as_str() {
        "/wait" => ok("hi").release(&reached).wait(&released).send("more").keep_open(),
        "/reset" => Reply::new().split("partial", 2).reset(),
        "/half" => ok("hi").half_close(),
        _ => Reply::new().send("HTTP/1.1 200 OK\r\n\r\nall").close(),
    });
    let mut socket = connect(origin.address());
    exchange(&mut socket, "/wait", OK_HI);
    here.wait();
    assert!(!go.is_released());
    go.release();
    let mut more = [0; 4];
    socket.read_exact(&mut more).unwrap();
    assert_eq!(&more, b"more");
    socket.write_all(b"GET /reset HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let error = socket.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let mut socket = connect(origin.address());
    exchange(&mut socket, "/half", OK_HI);
    assert_eq!(socket.read(&mut more).unwrap(), 0);
    assert_eq!(origin.wait_for(|log| log.open == 1).connections, 2);
    drop(socket);
    origin.wait_for(|log| log.open == 0);

    let mut socket = connect(origin.address());
    exchange(&mut socket, "/", "HTTP/1.1 200 OK\r\n\r\nall");
    assert_eq!(socket.read(&mut more).unwrap(), 0);
}

#[test]
fn silence_ends_with_the_origin_and_a_greeting_comes_first() {
    let here = Latch::new();
    let reached = here.clone();
    let greeting = move |connection| match connection {
        0 => Reply::new().send("hello"),
        _ => Reply::new().release(&reached).wait(&Latch::new()),
    };
    let setup = Setup { greeting: Some(Box::new(greeting)), ..Setup::default() };
    let origin = Origin::start(setup, |_| Reply::new().silence());
    let mut socket = connect(origin.address());
    let mut hello = [0; 5];
    socket.read_exact(&mut hello).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    origin.wait_for(|log| log.requests.len() == 1);
    let mut second = connect(origin.address());
    here.wait();
    drop(origin);
    assert_eq!(socket.read(&mut hello).unwrap(), 0);
    assert_eq!(second.read(&mut hello).unwrap(), 0);
}

fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca_der()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn connect_tls(
    config: &Arc<ClientConfig>,
    origin: &Origin,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(session, connect(origin.address()))
}

#[test]
fn tls_is_trusted_resumed_and_ended_both_ways() {
    assert!(ca_pem().starts_with("-----BEGIN CERTIFICATE"));
    assert!(client_identity().1.contains("PRIVATE KEY"));
    let origin = Origin::tls(|seen| match seen.target.as_str() {
        "/rude" => ok("hi").close_without_notify(),
        _ => ok("hi").close(),
    });
    let config = client_config();
    let mut rest = Vec::new();
    let mut polite = connect_tls(&config, &origin);
    exchange(&mut polite, "/", OK_HI);
    assert_eq!(polite.read_to_end(&mut rest).unwrap(), 0);
    let mut rude = connect_tls(&config, &origin);
    exchange(&mut rude, "/rude", OK_HI);
    let error = rude.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let handshakes = origin.log().handshakes;
    assert_eq!(handshakes.iter().map(|made| made.resumed).collect::<Vec<_>>(), [false, true]);
    assert_eq!(handshakes[0].server_name.as_deref(), Some("localhost"));
    assert_eq!(handshakes[0].alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert!(origin.url("/").starts_with("https://127.0.0.1:"));
}

#[test]
fn certificates_can_be_wrong() {
    let expired = TlsSetup { expired: true, ..TlsSetup::default() };
    let untrusted = TlsSetup { trusted: false, ..TlsSetup::default() };
    let demanding = TlsSetup { client_certificate: true, ..TlsSetup::default() };
    for tls in [expired, untrusted, TlsSetup::named(&["other.test"]), demanding] {
        let setup = Setup { tls: Some(tls), ..Setup::default() };
        let origin = Origin::start(setup, |_| ok(""));
        let mut socket = connect_tls(&client_config(), &origin);
        let written = socket.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let read = written.and_then(|()| socket.read_to_end(&mut Vec::new()));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(socket);
        assert_eq!(origin.wait_for(|log| log.open == 0).requests, []);
    }
}

#[test]
fn ports_refuse_and_swallow() {
    let error = TcpStream::connect(refused_port()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let hole = blackhole();
    let error = TcpStream::connect_timeout(&hole.address, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

/// A query with id 0x1234.
fn query(name: &str, kind: u8) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, kind, 0, 1]);
    message
}

fn ask(socket: &UdpSocket, name: &str, kind: u8) -> Vec<u8> {
    socket.send(&query(name, kind)).unwrap();
    receive(socket)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut into = [0; 1500];
    let length = socket.recv(&mut into).unwrap();
    into[..length].to_vec()
}

#[test]
fn dns_answers_as_told() {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let late = Latch::new();
    let released = late.clone();
    let server = DnsServer::start(move |question| match question.name.as_str() {
        "gone.test" => DnsReply::NxDomain(9),
        "alias.test" => DnsReply::Alias("real.test".to_owned(), vec![address], 5),
        "long.test" => DnsReply::Truncated(vec![address], 5),
        "forged.test" => {
            let truth = DnsReply::Answer(vec![address], 5);
            DnsReply::Forged(vec![Ipv4Addr::BROADCAST.into()], Box::new(truth))
        }
        "silent.test" => DnsReply::Silent,
        "late.test" => DnsReply::After(released.clone(), Box::new(DnsReply::ServFail)),
        _ => DnsReply::Answer(vec![address, Ipv6Addr::LOCALHOST.into()], 300),
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();

    // What was not answered and what waits do not stand in the way.
    socket.send(&query("silent.test", 1)).unwrap();
    socket.send(&query("late.test", 1)).unwrap();
    let answer = ask(&socket, "Some.test", 1);
    assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    assert!(answer.ends_with(&[0, 0, 1, 44, 0, 4, 127, 0, 0, 9]));
    assert!(ask(&socket, "some.test", 28).ends_with(&Ipv6Addr::LOCALHOST.octets()));
    assert_eq!(ask(&socket, "some.test", 16)[6..10], [0, 0, 0, 1]);
    assert_eq!(ask(&socket, "alias.test", 1)[6..8], [0, 2]);
    assert_eq!(ask(&socket, "gone.test", 1)[2..4], [0x81, 0x83]);
    assert_eq!(ask(&socket, "forged.test", 1)[..2], [0x12, 0x35]);
    assert!(receive(&socket).ends_with(&[255; 4]));
    assert!(receive(&socket).ends_with(&[127, 0, 0, 9]));
    assert_eq!(ask(&socket, "long.test", 1)[2..8], [0x83, 0x80, 0, 1, 0, 0]);
    let mut stream = connect(server.address());
    let message = query("long.test", 1);
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &message].concat()).unwrap();
    let mut answer = vec![0; 2 + message.len() + 16];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(&[127, 0, 0, 9]));
    late.release();
    assert_eq!(receive(&socket)[2..4], [0x81, 0x82]);

    assert_eq!((server.count("some.test"), server.count("silent.test")), (3, 1));
    let questions = server.questions();
    assert_eq!(questions[3].kind, QueryType::Aaaa);
    assert_eq!(questions.last().map(|last| (last.over_tcp, last.nth)), Some((true, 1)));
    assert_eq!(questions[0].from, socket.local_addr().unwrap());
}

#[test]
fn a_script_can_take_what_follows_the_request() {
    let origin = Origin::plain(|_| Reply::new().then(Action::Receive(5)).send("got").close());
    let mut socket = connect(origin.address());
    socket.write_all(b"GET / HTTP/1.1\r\n\r\nextra").unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    assert_eq!(all, "got");
}
