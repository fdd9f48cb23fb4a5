//! The other clients in Rust, each as its documentation would have it used on one thread.
//!
//! `peers CLIENT url=… requests=N at_once=N…`, where CLIENT is `hyperconn` (bare connections),
//! `hyper` (the pooled client of hyper-util), `reqwest`, `ureq` or `miohttpc`.

mod hyper;
mod mio_httpc;
mod reqwest;
mod ureq;
mod work;

use whippet_bench::Failure;
use whippet_bench::meter::Counting;
use whippet_bench::plan::Plan;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Failure> {
    let plan = Plan::from_args()?;
    match plan.client.as_str() {
        "hyperconn" => hyper::connections(&plan),
        "hyper" => hyper::pooled(&plan),
        "reqwest" => reqwest::run(&plan),
        "ureq" => ureq::run(&plan),
        "miohttpc" => mio_httpc::run(&plan),
        other => Err(format!("no client is called {other}").into()),
    }
}
