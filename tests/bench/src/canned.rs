//! The one response of an origin, as bytes: so a client at the floor knows its length beforehand.

/// The head for a body of `body_bytes`; with `is_closing`, one that says that it is the last.
pub fn head(body_bytes: u64, is_closing: bool, coding: Option<&str>) -> Vec<u8> {
    let coding = coding.map_or(String::new(), |name| format!("Content-Encoding: {name}\r\n"));
    let closing = if is_closing { "Connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: canned\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {body_bytes}\r\n{coding}{closing}\r\n"
    );
    head.into_bytes()
}

/// The request of a client at the floor: what most clients send.
pub fn request(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: floor\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}
