//! The file of `tidings sim SCENARIO.toml`: the flags of the command, written down.

use std::{fs, ops::Range, path::Path, time::Duration};

use serde::Deserialize;
use tidings_sim::{FaultSet, Transport, World};

use super::{TransportWord, WorldWord, parse_faults, parse_seeds};
use crate::{quantity::parse_duration, trouble::Trouble, words::value};

/// What a scenario settles.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scenario {
    pub(super) seeds: Option<Range<u64>>,
    pub(super) world: Option<World>,
    pub(super) nodes: Option<u32>,
    pub(super) faults: Option<FaultSet>,
    pub(super) transport: Option<Transport>,
    pub(super) horizon: Option<Duration>,
    pub(super) messages: Option<u32>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    seed: Option<u64>,
    seeds: Option<String>,
    world: Option<String>,
    nodes: Option<u32>,
    faults: Option<String>,
    transport: Option<String>,
    horizon: Option<String>,
    messages: Option<u32>,
    /// What it shows; for its reader.
    #[serde(default, rename = "about")]
    _about: Option<String>,
}

pub(super) fn read(path: &Path) -> Result<Scenario, Trouble> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        Trouble::new("E0701", format!("the scenario {name} could not be read: {error}"))
            .hint("check the path; without a file, `tidings sim --seeds 1..1000` draws scenarios")
    })?;
    parse(&text).map_err(|problem| {
        Trouble::new("E0704", format!("the scenario {name} cannot be used"))
            .why(problem)
            .hint("for example: seeds = \"1..100\", nodes = 3, faults = \"drop,crash\"")
    })
}

fn parse(text: &str) -> Result<Scenario, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let one = written.seed.map(|seed| seed..seed.saturating_add(1));
    let seeds = written.seeds.as_deref().map(parse_seeds).transpose()?;
    let transport = written.transport.as_deref().map(|word| {
        let word: Option<TransportWord> = value(word);
        word.map(TransportWord::transport)
            .ok_or_else(|| "`transport` takes \"stream\" or \"datagram\"".to_owned())
    });
    let world = written.world.as_deref().map(|word| {
        let word: Option<WorldWord> = value(word);
        word.map(WorldWord::world).ok_or_else(|| "`world` takes \"links\" or \"group\"".to_owned())
    });
    if written.nodes.is_some_and(|nodes| !(2..=16).contains(&nodes)) {
        return Err("`nodes` takes a number from 2 to 16".to_owned());
    }
    Ok(Scenario {
        seeds: one.or(seeds),
        world: world.transpose()?,
        nodes: written.nodes,
        faults: written.faults.as_deref().map(parse_faults).transpose()?,
        transport: transport.transpose()?,
        horizon: written.horizon.as_deref().map(parse_duration).transpose()?,
        messages: written.messages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_what_the_flags_would() {
        let scenario = parse(
            "about = \"x\"\nseeds = \"1..9\"\nnodes = 3\nfaults = \"drop\"\ntransport = \"stream\"\n\
             horizon = \"5s\"\nmessages = 7\n",
        );
        let scenario = scenario.unwrap();
        assert_eq!((scenario.seeds, scenario.nodes), (Some(1..9), Some(3)));
        assert_eq!(scenario.transport, Some(Transport::Stream));
        assert_eq!(scenario.horizon, Some(Duration::from_secs(5)));
        assert_eq!(parse("world = \"group\"").unwrap().world, Some(World::Group));
        for bad in [
            "seedz = 1",
            "world = \"moon\"",
            "nodes = 1",
            "faults = \"fire\"",
            "transport = \"x\"",
            "seeds = 5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
