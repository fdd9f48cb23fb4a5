//! WebSocket (RFC 6455) over an upgraded fetch: sends texts and the content of files to a server
//! that echoes, and prints what comes. tungstenite makes and reads the frames, and sees no socket.
//!
//! `cargo run --example websocket -- ws://127.0.0.1:8080/ hello @image.png`

#![forbid(unsafe_code)]

mod pipe;

use std::io::{self, Write};

use pipe::Pipe;
use tungstenite::handshake::{client::generate_key, derive_accept_key};
use tungstenite::{Message, WebSocket, protocol::Role, util::NonBlockingResult};
use whippet::{Event, Limit, Reactor, Request, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: websocket URL [TEXT | @FILE]...")?;
    let messages = args.map(|arg| match arg.strip_prefix('@') {
        Some(file) => std::fs::read(file).map(Message::binary),
        None => Ok(Message::text(arg)),
    });
    let mut settings = Settings::default();
    settings.timeouts.set(Limit::Total, None);
    talk(Reactor::new(settings)?, &url, messages.collect::<io::Result<_>>()?, &mut io::stdout())
}

/// Sends each message when the connection has taken those before it, and writes what comes to
/// `heard`. Closes when as many have come as were sent, or when the server does.
pub(crate) fn talk(
    mut reactor: Reactor,
    url: &str,
    messages: Vec<Message>,
    heard: &mut dyn Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let url = url.strip_prefix("ws").map_or(url.to_owned(), |rest| format!("http{rest}"));
    let key = generate_key();
    let request = Request::get(url)?.upgrade("websocket")?.header("Sec-WebSocket-Version", "13")?;
    let id = reactor.submit(request.header("Sec-WebSocket-Key", &key)?)?;
    let mut socket = WebSocket::from_raw_socket(Pipe::default(), Role::Client, None);
    let (mut due, mut messages) = (messages.len(), messages.into_iter().peekable());
    loop {
        reactor.wait(None)?;
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Head { head, .. } => {
                    let accept = head.header("Sec-WebSocket-Accept");
                    let is_right = accept == Some(derive_accept_key(key.as_bytes()).as_bytes());
                    if head.status() != 101 || !is_right {
                        return Err(format!("this is no WebSocket: {}", head.status()).into());
                    }
                }
                Event::Body { chunk, .. } => socket.get_mut().came.extend(chunk),
                // Both sides have said that they close: how the connection ends is no matter.
                Event::Done { .. } | Event::Failed { .. } if !socket.can_read() => return Ok(()),
                Event::Done { .. } => return Err("the server has gone without a close".into()),
                Event::Failed { error, .. } => return Err(error.into()),
                _ => {}
            }
            // Pings, and the server's close, are answered by reading on.
            while let Some(message) = socket.read().no_block()? {
                if message.is_text() || message.is_binary() {
                    due = due.saturating_sub(1);
                    heard.write_all(&[&message.into_data()[..], b"\n"].concat())?;
                }
            }
            let has_room = socket.can_write() && socket.get_ref().said.is_empty();
            match messages.next_if(|_| has_room) {
                Some(message) => socket.send(message)?,
                None if due == 0 => socket.close(None)?,
                None => {}
            }
            // What is not taken stays, until an `Event::Writable` tells of room.
            let said = &mut socket.get_mut().said;
            said.drain(..reactor.send_body(id, said)?);
        }
    }
}
