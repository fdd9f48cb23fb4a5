//! Tests only. Job lines that are cut, damaged, or written from a model.

use super::*;

const LINES: [&str; 10] = [
    r#"{"url":"http://a.example/"}"#,
    r#"{"id":[1,{"b":2}],"url":"https://u:p@a.example:8443/x?y#z","method":"PUT","body":"x"}"#,
    r#"{"url":"http://a/","headers":[["X-A","1"],["X-A","2"],["caf","\u00e9"]],"follow":false}"#,
    r#"{"url":"http://a/","timeout":0.25,"retries":3,"resolve":{"a:80":"::1","b:81":"192.0.2.1"}}"#,
    r#"{"url":"http://a/","auth":{"basic":"user:pass"},"body_base64":"AAECAw=="}"#,
    r#"{"url":"http://a/","body":"x","trailers":[["X-A","1"],["X-B",""]]}"#,
    r#"{"url":"http://a/","auth":{"bearer":"token"},"id":"\ud83d\ude00"}"#,
    r#"{"url":"http://[::1]/","method":null,"timeout":1e300}"#,
    r#"  { "url" : "http://xn--bcher-kva.example/" , "id" : -1.50e+3 }  "#,
    r#"{"url":"http://a/","url":"http://b/","headers":[["A\r\nB","c"]]}"#,
];

/// Whatever a line is, what comes of it is a request or one line that says why not.
fn check(line: &[u8]) -> bool {
    let job = Job::from_line(line, &Defaults::default());
    match &job.request {
        Ok(request) => assert!(matches!(request.url().scheme(), "http" | "https")),
        Err(failure) => {
            assert!(matches!(failure.kind, "invalid_request" | "invalid_url"), "{failure:?}");
            assert!(!failure.message.is_empty() && !failure.message.contains(['\n', '\r']));
        }
    }
    job.request.is_ok()
}

#[test]
fn half_a_job_is_none_wherever_it_is_cut() {
    for line in LINES {
        let text = line.trim_end();
        for end in 0..text.len() {
            assert!(!check(&text.as_bytes()[..end]), "{}", &text[..end]);
        }
        for at in 0..line.len() {
            check(&line.as_bytes()[at..]);
            for byte in *b"\0\n\"{}[],:\\ 0-\x7f\xff" {
                let mut wrong = line.as_bytes().to_vec();
                wrong[at] = byte;
                check(&wrong);
            }
        }
    }
    let fine = LINES.iter().filter(|line| check(line.as_bytes())).count();
    assert_eq!(fine, LINES.len() - 2, "a span of 1e300 s and a line end in a name are refused");
}

proptest::proptest! {
    #[test]
    fn a_job_that_was_written_is_the_request_it_says(
        method in "[A-Z]{1,8}",
        path in "/[a-z0-9/]{0,20}",
        headers in proptest::collection::vec(("X-[a-z]{1,8}", "[!-~]([ -~]{0,10}[!-~])?"), 0..6),
        id in "\\PC{0,10}",
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
    ) {
        proptest::prop_assume!(method != "CONNECT");
        let url = format!("http://a.example{path}");
        let line = serde_json::json!(
            {"id": id, "url": url, "method": method, "headers": headers}).to_string();
        let job = Job::from_line(line.as_bytes(), &Defaults::default());
        proptest::prop_assert_eq!(job.id, Some(Value::from(id)));
        let request = job.request.unwrap();
        proptest::prop_assert_eq!(request.method().as_str(), method);
        proptest::prop_assert_eq!(request.url().as_str(), url);
        for (name, _) in &headers {
            let first = headers.iter().find(|header| header.0 == *name).map(|h| h.1.as_bytes());
            proptest::prop_assert_eq!(request.header_value(name), first);
        }
        check(&noise);
        check(&[line.as_bytes(), &noise].concat());
    }
}
