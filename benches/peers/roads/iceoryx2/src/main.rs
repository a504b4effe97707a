//! iceoryx2: publish and subscribe with one subscriber that polls, without overflow: the publisher waits. In
//! order and without loss while both live.

use ends::{Args, Count, Failed, Flood, Times};
use iceoryx2::port::{publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;

type Out = Publisher<ipc::Service, [u8], ()>;
type In = Subscriber<ipc::Service, [u8], ()>;
type Own = iceoryx2::node::Node<ipc::Service>;

/// Samples between the two; of large ones fewer.
fn room(size: usize) -> usize {
    ((4 << 20) / size).clamp(4, 1024)
}

fn output(node: &Own, name: &str, size: usize) -> Result<Out, Failed> {
    let service = service(node, name, size)?;
    Ok(service
        .publisher_builder()
        .initial_max_slice_len(size)
        .max_loaned_samples(2)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()?)
}

fn input(node: &Own, name: &str, size: usize) -> Result<In, Failed> {
    let service = service(node, name, size)?;
    Ok(service.subscriber_builder().buffer_size(room(size)).create()?)
}

type Service =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8], ()>;

fn service(node: &Own, name: &str, size: usize) -> Result<Service, Failed> {
    let service = node.service_builder(&name.try_into()?).publish_subscribe::<[u8]>();
    Ok(service
        .enable_safe_overflow(false)
        .max_publishers(1)
        .max_subscribers(1)
        .history_size(0)
        .subscriber_max_buffer_size(room(size))
        .open_or_create()?)
}

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let name = match args.is_far {
        true => format!("race/{}", std::process::id()),
        false => args.address.clone(),
    };
    let there = format!("{name}/there");
    let back = format!("{name}/back");
    match (args.is_far, args.what.as_str()) {
        (true, "send") => {
            let input = input(&node, &there, args.size)?;
            ends::listening(&name);
            sink(&input)
        }
        (true, _) => {
            let input = input(&node, &there, args.size)?;
            let output = output(&node, &back, args.size)?;
            ends::listening(&name);
            loop {
                if let Some(sample) = input.receive()? {
                    send(&output, sample.payload())?;
                }
            }
        }
        (false, "send") => {
            let output = output(&node, &there, args.size)?;
            let mut flood = Flood::new(args.size, ends::begin()?);
            while let Some(body) = flood.next_body() {
                send(&output, body)?;
            }
            flood.report();
            std::thread::sleep(std::time::Duration::from_secs(30)); // the parent ends us
            Ok(())
        }
        (false, _) => {
            let input = input(&node, &back, args.size)?;
            let output = output(&node, &there, args.size)?;
            let body = vec![0x5a; args.size];
            let mut times = Times::new(ends::begin()?);
            while times.ask() {
                send(&output, &body)?;
                while input.receive()?.is_none() {
                    std::hint::spin_loop();
                }
                times.answered();
            }
            times.report();
            Ok(())
        }
    }
}

/// The body is written once, into the memory that is shared.
fn send(output: &Out, body: &[u8]) -> Result<(), Failed> {
    output.loan_slice_uninit(body.len())?.write_from_slice(body).send()?;
    Ok(())
}

fn sink(input: &In) -> Result<(), Failed> {
    let mut count = Count::default();
    loop {
        while let Some(sample) = input.receive()? {
            count.see(sample.payload());
        }
        std::hint::spin_loop();
    }
}
