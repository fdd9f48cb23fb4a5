//! What a tunnel's proxy was shown is judged as what it is, whoever waits for the tunnel by then.
//! On a network that does what the test tells it.

#![cfg(feature = "digest")]

mod scripted;

use scripted::{ANSWER, READABLE, Stage, WRITABLE};
use whippet::{ConnectTo, Proxies, Proxy, Request};

/// Requests that go through tunnels of a proxy that asks who they are of.
fn stage() -> Stage {
    Stage::with(|settings| {
        let proxy = Proxy::new("http://me:secret@192.0.2.9:3128").unwrap().digest();
        settings.proxies = Proxies::all(proxy);
        // What is led elsewhere is not handed over.
        settings.connect_to = vec![ConnectTo::new("::192.0.2.2:80").unwrap()];
    })
}

/// What has been written to a socket since this was last asked.
fn heard(stage: &Stage, socket: usize) -> String {
    let mut heard = Vec::new();
    stage.change(socket, |socket| heard = std::mem::take(&mut socket.written));
    String::from_utf8(heard).unwrap()
}

/// Connects a socket, which then asks for a tunnel.
fn connect(stage: &mut Stage, socket: usize) -> String {
    stage.change(socket, |socket| socket.has_connected = true);
    stage.turn(socket, WRITABLE);
    let heard = heard(stage, socket);
    assert!(heard.starts_with("CONNECT 192.0.2.2:80 "), "{heard}");
    heard
}

fn say(stage: &mut Stage, socket: usize, said: &str) -> String {
    stage.change(socket, |socket| socket.received.extend(said.as_bytes()));
    stage.turn(socket, READABLE);
    heard(stage, socket)
}

/// A challenge with this nonce.
fn who(nonce: &str) -> String {
    let field = format!("Proxy-Authenticate: Digest realm=\"r\", qop=\"auth\", nonce=\"{nonce}\"");
    format!("HTTP/1.1 407 Who\r\n{field}\r\nContent-Length: 0\r\n\r\n")
}

const TUNNEL: &str = "HTTP/1.1 200 Established\r\n\r\n";

#[test]
fn a_tunnel_that_another_fetch_began_is_judged_by_what_that_has_shown() {
    let mut stage = stage();
    let answered = std::str::from_utf8(ANSWER).unwrap();
    // One is under way since before the proxy asked anybody.
    stage.submit("GET");
    stage.pass(0);
    connect(&mut stage, 0);
    assert!(say(&mut stage, 0, TUNNEL).starts_with("GET / "));
    // One is asked, and answers.
    let request = Request::get("http://192.0.2.1/asked").unwrap().collect(true);
    stage.reactor.submit(request.digest_auth("me", "secret").unwrap()).unwrap();
    stage.pass(0);
    connect(&mut stage, 1);
    say(&mut stage, 1, &who("first"));
    stage.pass(0);
    let heard = connect(&mut stage, 2);
    assert!(heard.contains("nonce=\"first\"") && heard.contains("nc=00000001"), "{heard}");
    assert!(say(&mut stage, 2, TUNNEL).starts_with("GET /asked "));
    // A third begins a tunnel with the same nonce, and then takes the connection of the first.
    stage.submit_to("GET", "http://192.0.2.1/third");
    stage.pass(0);
    let heard = connect(&mut stage, 3);
    assert!(heard.contains("nonce=\"first\"") && heard.contains("nc=00000002"), "{heard}");
    assert!(say(&mut stage, 0, answered).starts_with("GET /third "));
    // The second needs another connection, which is the one that the third began. The proxy has
    // forgotten the nonce, and does not say so.
    let asks = "HTTP/1.1 401 Who\r\nWWW-Authenticate: Digest realm=\"o\", nonce=\"o\"\r\n\
        Connection: close\r\nContent-Length: 0\r\n\r\n";
    say(&mut stage, 2, asks);
    stage.pass(0);
    assert_eq!(stage.sockets(), 4);
    say(&mut stage, 3, &who("second"));
    stage.pass(0);
    assert_eq!((&stage.failed[..], stage.sockets()), (&[][..], 5));
    let heard = connect(&mut stage, 4);
    assert!(heard.contains("nonce=\"second\"") && heard.contains("nc=00000001"), "{heard}");
    assert!(say(&mut stage, 4, TUNNEL).contains("\r\nAuthorization: Digest "));
    say(&mut stage, 4, answered);
    say(&mut stage, 0, answered);
    assert_eq!(stage.bodies, ["good"; 3]);
}
