//! The example `websocket`, its own code and the program, against a server that tungstenite makes.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;
#[path = "../examples/websocket/main.rs"]
#[allow(dead_code, unreachable_pub, reason = "the program, as a module")]
mod websocket;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use driving::settings;
use rustls::{ServerConnection, StreamOwned};
use socket2::SockRef;
use support::program::{example, run};
use support::{Origin, TlsSetup, status};
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tungstenite::{Error, Message, WebSocket, accept};
use whippet::Reactor;

/// Both ends of a connection.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

type Server = WebSocket<Box<dyn Wire>>;

/// Serves one client after its handshake; what `serve` saw is given back.
fn server<T, F>(is_tls: bool, serve: F) -> (String, JoinHandle<T>)
where
    T: Send + 'static,
    F: FnOnce(Server) -> T + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // So small that a large message is never all on its way.
    SockRef::from(&listener).set_recv_buffer_size(16 << 10).unwrap();
    SockRef::from(&listener).set_send_buffer_size(16 << 10).unwrap();
    let scheme = if is_tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let wire: Box<dyn Wire> = if is_tls {
            let session = ServerConnection::new(TlsSetup::default().server_config()).unwrap();
            Box::new(StreamOwned::new(session, socket))
        } else {
            Box::new(socket)
        };
        serve(accept(wire).unwrap())
    });
    (url, serving)
}

/// Repeats each message to the client's close, and gives all that it heard.
fn echo(mut server: Server) -> Vec<Message> {
    let mut heard = Vec::new();
    loop {
        match server.read() {
            Ok(message) => {
                if message.is_text() || message.is_binary() {
                    server.send(message.clone()).unwrap();
                }
                heard.push(message);
            }
            Err(Error::ConnectionClosed) => return heard,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The example's code, and what it has heard.
fn talk(url: &str, messages: &[Message]) -> Result<Vec<u8>, String> {
    let (reactor, mut heard) = (Reactor::new(settings()).unwrap(), Vec::new());
    let talked = websocket::talk(reactor, url, messages.to_vec(), &mut heard);
    talked.map(|()| heard).map_err(|error| error.to_string())
}

/// What an example prints that has heard these.
fn lines(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(|it| [&it.clone().into_data()[..], b"\n"].concat()).collect()
}

/// Bytes of which some are no text.
fn pattern(length: usize) -> Vec<u8> {
    (0_u8..=250).cycle().take(length).collect()
}

#[test]
fn messages_of_both_kinds_and_all_sizes_come_back_and_it_closes() {
    let messages = [
        Message::text("hello"),
        Message::text(""),
        Message::text("caf\u{e9} \u{20ac} \u{1f415}"),
        Message::binary(pattern(3)),
        Message::binary(pattern(125)),
        Message::binary(pattern(65_536)),
        Message::text("x".repeat(1 << 20)),
        Message::binary(pattern(1 << 20)),
        Message::binary(pattern(1 << 20)),
        Message::text("bye"),
    ];
    for is_tls in [false, true] {
        let (url, serving) = server(is_tls, echo);
        assert!(talk(&url, &messages).unwrap() == lines(&messages), "{url}");
        let heard = serving.join().unwrap();
        let (close, heard) = heard.split_last().unwrap();
        assert!(heard == messages, "{url}");
        assert_eq!(close, &Message::Close(None), "{url}");
    }
}

#[test]
fn without_a_message_it_closes_at_once() {
    let (url, serving) = server(false, echo);
    assert_eq!(talk(&url, &[]).unwrap(), b"");
    assert_eq!(serving.join().unwrap(), [Message::Close(None)]);
}

#[test]
fn pings_are_answered_while_a_message_is_on_its_way() {
    let (url, serving) = server(false, |mut server| {
        // Before anything is heard, and with all that a ping may carry (RFC 6455 §5.5).
        server.send(Message::Ping(pattern(125).into())).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.push(server.read().unwrap());
        }
        server.send(Message::text("done")).unwrap();
        while server.read().is_ok() {}
        heard
    });
    let message = Message::binary(pattern(1 << 20));
    assert_eq!(talk(&url, std::slice::from_ref(&message)).unwrap(), b"done\n");
    let heard = serving.join().unwrap();
    let pong = Message::Pong(pattern(125).into());
    assert!(heard == [message.clone(), pong.clone()] || heard == [pong, message]);
}

#[test]
fn a_close_of_the_servers_is_answered_and_is_the_end() {
    for is_tls in [false, true] {
        let (url, serving) = server(is_tls, |mut server| {
            let first = server.read().unwrap();
            let frame = CloseFrame { code: CloseCode::Away, reason: "later".into() };
            server.send(first).unwrap();
            server.close(Some(frame)).unwrap();
            let mut heard = Vec::new();
            loop {
                match server.read() {
                    Ok(message) => heard.push(message),
                    Err(error) => return (heard, matches!(error, Error::ConnectionClosed)),
                }
            }
        });
        // More than the server takes.
        let messages = [Message::text("one"), Message::binary(pattern(4 << 20))];
        assert_eq!(talk(&url, &messages).unwrap(), b"one\n", "{url}");
        let (heard, is_orderly) = serving.join().unwrap();
        let Some(Message::Close(Some(frame))) = heard.last() else { panic!("{url}: no answer") };
        assert_eq!((frame.code, &*frame.reason), (CloseCode::Away, "later"), "{url}");
        assert!(is_orderly, "{url}");
    }
}

#[test]
fn a_server_that_goes_without_a_close_is_an_error() {
    let (url, serving) = server(false, |mut server| drop(server.read()));
    assert!(talk(&url, &[Message::text("one")]).unwrap_err().contains("without a close"));
    serving.join().unwrap();
}

#[test]
fn what_breaks_the_protocol_is_an_error() {
    let (url, serving) = server(false, |mut server| {
        // A reserved kind of frame (RFC 6455 §5.2).
        server.get_mut().write_all(&[0x83, 0]).unwrap();
        drop(server.read());
    });
    assert!(talk(&url, &[]).is_err());
    serving.join().unwrap();
}

#[test]
fn a_server_that_does_not_prove_to_speak_it_is_not_believed() {
    let origin = Origin::plain(|_| status(404));
    assert!(talk(&origin.url("/"), &[]).unwrap_err().contains("404"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        answer_for_another(&mut socket);
        // It leaves.
        while socket.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    });
    assert!(talk(&url, &[Message::text("secret")]).unwrap_err().contains("101"));
    serving.join().unwrap();
}

/// A 101 to the key of RFC 6455 §1.3, which is not the one that was sent.
fn answer_for_another(socket: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    socket.write_all(answer.as_bytes()).unwrap();
}

#[test]
fn the_program_sends_texts_and_files_and_prints_what_comes() {
    let path = std::env::temp_dir().join(format!("whippet-websocket-{}", std::process::id()));
    let content = pattern(1 << 20);
    std::fs::write(&path, &content).unwrap();
    let (url, serving) = server(false, echo);
    let file = format!("@{}", path.display());
    let done = run(example("websocket", &[&url, "hello", &file, "bye"]), "");
    std::fs::remove_file(&path).unwrap();
    let messages = [Message::text("hello"), Message::binary(content), Message::text("bye")];
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert!(done.stdout == lines(&messages));
    assert!(serving.join().unwrap()[..3] == messages);
    let done = run(example("websocket", &[]), "");
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("usage"));
}
