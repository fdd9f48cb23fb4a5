//! reqwest on tokio's current thread.

use reqwest::Client;
use whippet_bench::Failure;
use whippet_bench::plan::Plan;

use crate::hyper::config;
use crate::work::on_tokio;

pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let client = Client::builder()
        .tls_backend_preconfigured(config(plan)?)
        .no_proxy()
        .gzip(plan.is_set("decode"))
        .build()?;
    let url = plan.url()?.to_owned();
    let is_bulk = plan.is_set("bulk");
    on_tokio(plan, |work| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            while let Some(began) = work.next() {
                let mut response = client.get(&url).send().await?;
                let mut bytes = 0;
                if is_bulk {
                    while let Some(chunk) = response.chunk().await? {
                        bytes += chunk.len() as u64;
                    }
                } else {
                    bytes = response.bytes().await?.len() as u64;
                }
                work.done(began, bytes);
            }
            Ok(())
        }
    })
}
