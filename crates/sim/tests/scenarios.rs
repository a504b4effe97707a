//! Every named scenario, by its name.

#[test]
fn every_scenario_ends_well() {
    for (name, play) in tidings_sim::scenarios() {
        assert_eq!(play(), Ok(()), "{name}");
    }
}
