//! What each peer promises in the race: printed under its table and kept with the figures, so that no ratio
//! is read without it. Settings are in the README.

use serde_json::{Value, json};

use crate::figures::Figures;

/// Of a race, or of all races if empty; of the peers whose names begin so.
const PROMISES: &[(&str, &str, &str)] = &[
    ("groups", "tidings", "atomic: uniform delivery in total order, virtual synchrony"),
    ("groups", "corosync", "agreed order, not uniform; virtual synchrony"),
    ("groups", "jgroups", "total order by a sequencer, not uniform; no virtual synchrony"),
    ("requests", "tidings", "one answer to each request, in this life of the responder"),
    ("", "tidings", "at least once, FIFO, flow control end to end"),
    ("uring", "", "what the kernel promises, no frames"),
    ("shm", "raw", "bytes in order, no frames"),
    ("", "raw", "what the kernel promises, no frames"),
    ("", "zmq", "at most once, FIFO while connected"),
    ("", "nng", "at most once, FIFO while connected"),
    ("", "tonic", "at most once, FIFO on a stream"),
    ("", "hyper", "at most once"),
    ("", "nats", "at most once, FIFO, through a broker; a slow subscriber is cut off"),
    ("", "zenoh", "hop by hop reliable, FIFO of a publisher"),
    ("udp", "aeron", "FIFO of a session, losses asked for again while the receiver lives"),
    ("shm", "aeron", "FIFO of a session, no loss while both live"),
    ("", "iceoryx2", "FIFO, no loss while both live"),
    ("inproc", "", "FIFO within a process"),
    ("owned", "", "FIFO within a process"),
];

fn of(race: &str, peer: &str) -> Option<&'static str> {
    let is_it = |&&(of, name, _): &&(&str, &str, &str)| {
        (of.is_empty() || of == race) && peer.starts_with(name)
    };
    PROMISES.iter().find(is_it).map(|(_, _, promise)| *promise)
}

/// A line for each promise made in a race, with who makes it.
fn all<'a>(figures: &'a Figures, race: &str) -> Vec<(&'static str, Vec<&'a str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for peer in figures.peers(race) {
        let promise = of(race, peer).unwrap_or("not written down");
        match all.iter_mut().find(|(it, _)| *it == promise) {
            Some((_, peers)) => peers.push(peer),
            None => all.push((promise, vec![peer])),
        }
    }
    all
}

pub fn text(figures: &Figures, race: &str) -> String {
    let line = |(promise, peers): &(&str, Vec<&str>)| format!("{}: {promise}\n", peers.join(", "));
    all(figures, race).iter().map(line).collect()
}

pub fn json(figures: &Figures, race: &str) -> Vec<Value> {
    let one = |(promise, peers)| json!({"race": race, "peers": peers, "promise": promise});
    all(figures, race).into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_race_comes_before_all_races() {
        assert_eq!(
            of("groups", "tidings-tcp").unwrap_or_default().split(':').next(),
            Some("atomic")
        );
        assert!(of("tcp", "tidings-async").unwrap_or_default().starts_with("at least once"));
        assert_eq!(of("owned", "kanal"), Some("FIFO within a process"));
        assert_eq!(of("tcp", "nobody"), None);
    }
}
