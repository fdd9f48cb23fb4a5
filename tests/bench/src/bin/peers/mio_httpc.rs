//! mio_httpc, over plain HTTP.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use mio_httpc::{CallBuilder, CallRef, Httpc, SimpleCall};
use whippet_bench::Failure;
use whippet_bench::meter::{Meter, Tally};
use whippet_bench::plan::Plan;

pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let requests = plan.requests()?;
    let at_once = usize::try_from(plan.at_once()?.min(requests))?;
    let mut poll = Poll::new()?;
    let mut client = Httpc::new(at_once, None);
    let mut events = Events::with_capacity(1_024);
    let mut calls: HashMap<CallRef, (SimpleCall, Option<Instant>)> = HashMap::new();
    let mut meter = Meter::start(plan)?;
    let mut tally = Tally::default();
    let begin = |client: &mut Httpc, poll: &Poll| {
        CallBuilder::get()
            .url(plan.url().unwrap_or_default())
            .and_then(|call| call.timeout_ms(60_000).simple_call(client, poll.registry()))
            .map_err(|error| format!("{error:?}"))
    };
    while calls.len() < at_once {
        let call = begin(&mut client, &poll)?;
        calls.insert(call.call().get_ref(), (call, meter.now()));
    }
    let mut begun = at_once as u64;
    while tally.done < requests {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let Some(reference) = client.event(event) else { continue };
            let Some((call, _)) = calls.get_mut(&reference) else { continue };
            let performed = call.perform(&mut client, poll.registry());
            if !performed.map_err(|error| format!("{error:?}"))? {
                continue;
            }
            let Some((call, began)) = calls.remove(&reference) else { continue };
            let (_, body) = call.finish().ok_or("no response")?;
            tally.add(body.len() as u64);
            meter.note(began);
            if begun < requests {
                begun += 1;
                let call = begin(&mut client, &poll)?;
                calls.insert(call.call().get_ref(), (call, meter.now()));
            }
        }
    }
    meter.finish(tally)
}
