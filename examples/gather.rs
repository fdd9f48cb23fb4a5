//! Fetches the URLs given and prints their outcomes in order, failures in their places.
//!
//! `cargo run --example gather -- http://127.0.0.1:8080/a http://127.0.0.1:8080/b`

#![forbid(unsafe_code)]

use whippet::{Client, Error};

fn main() -> Result<(), Error> {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    let mut client = Client::new()?.default_header("Accept-Language", "en")?;
    let answers = client.gather(&urls);
    for (url, answer) in urls.iter().zip(answers) {
        // A status of 400 or more counts as a failure here because we say so.
        match answer.and_then(whippet::Response::raise_for_status) {
            Ok(page) => {
                let total = page.stats().timings.total;
                println!("{} {} bytes in {total:.1?}  {url}", page.status(), page.body().len());
            }
            Err(error) => println!("{}: {error}  {url}", error.kind()),
        }
    }
    Ok(())
}
