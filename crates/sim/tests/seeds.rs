//! Seeds, the same ones at every build; how many more were played is in docs/proof.md.

use tidings_sim::{FaultSet, Options, Transport, run};

const SEEDS: u64 = 600;

fn play(seeds: impl Iterator<Item = u64>, options: &Options) {
    for seed in seeds {
        let report = run(seed, options);
        assert_eq!(report.violation, None, "{} ({})", report.reproduce(), report.plan);
    }
}

#[test]
fn every_promise_is_kept_under_every_seed() {
    play(0..SEEDS, &Options::default());
}

#[test]
fn every_promise_is_kept_without_harm_and_under_all_of_it() {
    for transport in [Transport::Stream, Transport::Datagram] {
        for faults in ["none", "all"] {
            let faults = FaultSet::parse(faults).ok();
            let options =
                Options { transport: Some(transport), faults, nodes: 3, ..Options::default() };
            play(10_000..10_030, &options);
        }
    }
}

//= GUARANTEES.md#DETERMINISM-1
#[test]
fn equal_seeds_make_equal_worlds() {
    for seed in 0..100 {
        let options = Options::default();
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!(first, second, "seed {seed}");
        let traced = run(seed, &Options { is_traced: true, ..options });
        assert_eq!(first.trace_hash, traced.trace_hash, "to watch seed {seed} changes it");
    }
}

#[test]
fn the_world_does_harm() {
    let reports: Vec<_> = (0..60).map(|seed| run(seed, &Options::default())).collect();
    assert!(reports.iter().map(|report| report.crashes).sum::<u64>() > 20);
    assert!(reports.iter().map(|report| report.sessions).sum::<u64>() > 200);
    let (excused, sent) = reports
        .iter()
        .fold((0, 0), |(excused, sent), report| (excused + report.excused, sent + report.sent));
    assert!(excused * 20 < sent, "{excused} of {sent} messages are excused");
}
