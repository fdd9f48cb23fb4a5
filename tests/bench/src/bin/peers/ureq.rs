//! ureq: as many threads as requests are to be in flight.

use std::io::Read;
use std::sync::Arc;
use std::thread;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use whippet_bench::meter::{Meter, allocations};
use whippet_bench::plan::Plan;
use whippet_bench::{Failure, tls};

use crate::work::Work;

pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let at_once = usize::try_from(plan.at_once()?)?;
    let mut config = Agent::config_builder()
        .max_idle_connections(at_once)
        .max_idle_connections_per_host(at_once)
        .proxy(None);
    if plan.is_tls() {
        let file = tls::certificates(&plan.authority_file()?)?;
        let roots: Vec<_> =
            file.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
        let roots = RootCerts::new_with_certs(&roots);
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    let agent = Agent::new_with_config(config.build());
    let url = plan.url()?;
    let work = Work::new(plan)?;
    let meter = Meter::start(plan)?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once)
            .map(|_| {
                let (agent, work) = (agent.clone(), Arc::clone(&work));
                scope.spawn(move || fetch(&agent, url, &work))
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok::<_, Failure>(())
    })?;
    work.finish(meter)
}

fn fetch(agent: &Agent, url: &str, work: &Work) -> Result<(), Failure> {
    let before = allocations();
    let mut buffer = vec![0; 64 << 10];
    while let Some(began) = work.next_of_threads() {
        let mut response = agent.get(url).call()?;
        let mut body = response.body_mut().as_reader();
        let mut bytes = 0;
        loop {
            match body.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
        work.done(began, bytes);
    }
    work.add_allocations(allocations() - before);
    Ok(())
}
