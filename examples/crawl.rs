//! Follows links from one page to others of the same origin, politely: new URLs are submitted while
//! answers come, at a rate that the origin can bear, and not at all while it asks to be left alone.
//!
//! `cargo run --example crawl -- http://127.0.0.1:8080/ 100 5`: at most 100 pages, 5 a second.

#![forbid(unsafe_code)]

use std::collections::{HashSet, VecDeque};

use whippet::url::Url;
use whippet::{Circuit, Client, Rate, Request, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let start = Url::parse(&args.next().ok_or("usage: crawl URL [PAGES [RATE]]")?)?;
    let pages_max: usize = args.next().map_or(Ok(100), |pages| pages.parse())?;
    let rate: f64 = args.next().map_or(Ok(5.0), |rate| rate.parse())?;

    let mut settings = Settings::default();
    settings.pace.rate = Some(Rate::per_second(rate).ok_or("the rate is above zero")?);
    settings.pace.heeds_limits = true;
    // What is left to be fetched when the origin seems to be down fails at once.
    settings.pace.circuit = Some(Circuit::after(5));
    let mut client = Client::with_settings(settings)?;
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start.clone()]);
    loop {
        // What the waiting list has no room for stays in our own queue.
        while let Some(url) = queue.pop_front() {
            if client.submit(Request::for_url("GET", url.clone())?).is_err() {
                queue.push_front(url);
                break;
            }
        }
        let Some(completed) = client.next_completed() else { break };
        let page = match completed.result {
            Ok(page) => page,
            Err(error) => {
                println!("{}: {error}", error.kind());
                continue;
            }
        };
        println!("{} {}", page.status(), page.url());
        for link in links(&page.text(), page.url()) {
            let is_ours = link.origin() == start.origin();
            if is_ours && seen.len() < pages_max && seen.insert(link.clone()) {
                queue.push_back(link);
            }
        }
    }
    Ok(())
}

/// What stands in `href="…"`: enough for an example, not for the web.
fn links(page: &str, base: &Url) -> Vec<Url> {
    let values = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut links: Vec<Url> = values.filter_map(|value| base.join(value).ok()).collect();
    for link in &mut links {
        link.set_fragment(None);
    }
    links
}
