//! Forms as they arrive: urlencoded, of several parts with files read as they are sent, and JSON.

mod support;

use std::path::PathBuf;

use support::{Origin, ok, redirect};
use whippet::{Client, Multipart, Part, Request};

fn post(origin: &Origin) -> Request {
    Request::post(origin.url("/")).unwrap()
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("whippet-{name}-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_urlencoded_form_says_what_it_is() {
    let origin = Origin::plain(|seen| ok(&seen.body));
    let mut client = Client::new().unwrap();
    let fields = [("a b", "c&d=e"), ("é", "~*-._"), ("", "\r\n")];
    let answer = client.fetch(post(&origin).form(fields)).unwrap();
    assert_eq!(answer.text(), "a+b=c%26d%3De&%C3%A9=%7E*-._&=%0D%0A");
    let own = post(&origin).header("content-type", "text/x").unwrap().form([("a", "b")]);
    client.fetch(own).unwrap();
    let types: Vec<_> = origin
        .requests()
        .iter()
        .map(|seen| seen.header("content-type").unwrap().to_owned())
        .collect();
    assert_eq!(types, ["application/x-www-form-urlencoded", "text/x"]);
}

#[test]
fn a_form_of_several_parts_arrives_whole_also_where_it_is_sent_again() {
    let long: Vec<u8> = (0_u8..=250).cycle().take(1_000_000).collect();
    let (path, empty) = (file("photo", &long), file("empty", b""));
    let origin = Origin::plain(|seen| match &*seen.target {
        "/" => redirect(307, "/again"),
        _ => ok(seen.header("content-length").unwrap()),
    });
    let form = Multipart::new()
        .text("title", "a\r\nb")
        .part(
            "photo",
            Part::file(&path).unwrap().file_name("b\"ch.jpg").content_type("image/jpeg").unwrap(),
        )
        .file("nothing", &empty)
        .unwrap()
        .part("raw", Part::bytes([0, 1, 255]))
        .part("value", Part::content_of(&path).unwrap());
    let request = post(&origin).header("Content-Type", "text/x").unwrap().multipart(form);
    let answer = Client::new().unwrap().fetch(request).unwrap();
    let requests = origin.requests();
    assert_eq!(requests.len(), 2);
    for seen in &requests {
        assert_eq!(answer.text(), seen.body.len().to_string());
        let disposition = "Content-Disposition: form-data; name=";
        let name = empty.file_name().unwrap().to_str().unwrap();
        let expected = [
            (format!("{disposition}\"title\""), b"a\r\nb".to_vec()),
            (
                format!(
                    "{disposition}\"photo\"; filename=\"b%22ch.jpg\"\r\nContent-Type: image/jpeg"
                ),
                long.clone(),
            ),
            (
                format!(
                    "{disposition}\"nothing\"; filename=\"{name}\"\r\n\
                     Content-Type: application/octet-stream"
                ),
                Vec::new(),
            ),
            (format!("{disposition}\"raw\""), vec![0, 1, 255]),
            (format!("{disposition}\"value\""), long.clone()),
        ];
        assert!(seen.parts() == expected, "{:?}", seen.parts().iter().map(|(head, _)| head));
    }
    assert!(Part::file(std::env::temp_dir()).is_err(), "a folder is no file");
    assert!(Part::content_of(std::env::temp_dir()).is_err(), "nor is it a file's content");
    for path in [path, empty] {
        std::fs::remove_file(path).unwrap();
    }
}

#[cfg(feature = "json")]
#[test]
fn values_go_and_come_as_json() {
    let origin = Origin::plain(|seen| ok(&seen.body));
    let mut client = Client::new().unwrap();
    let value = vec![("a\"b".to_owned(), 1.5), ("é".to_owned(), -2.0)];
    let answer = client.fetch(post(&origin).json(&value).unwrap()).unwrap();
    assert_eq!(answer.text(), "[[\"a\\\"b\",1.5],[\"é\",-2.0]]");
    assert_eq!(answer.json::<Vec<(String, f64)>>().unwrap(), value);
    let error = answer.json::<Vec<u8>>().unwrap_err();
    assert_eq!(error.kind(), whippet::Kind::Decode);
    assert!(error.to_string().contains("line 1 column"), "{error}");
    let seen = &origin.requests()[0];
    assert_eq!(seen.header("content-type"), Some("application/json"));
}
