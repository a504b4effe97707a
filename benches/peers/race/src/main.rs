//! The race: runs every peer and tidings in turn, several rounds, and prints medians with their spread.
//! It measures nothing itself; the programs of the peers do, and report.

mod figures;
mod groups;
mod marks;
mod options;
mod plot;
mod program;
mod progress;
mod promises;
mod roads;

use std::process::ExitCode;

use figures::Figures;
use options::{Options, Race};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    if options.is_help {
        println!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    match groups::inside(&options) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("race groups: {why}");
            return ExitCode::FAILURE;
        }
    }
    let mut figures = Figures::default();
    if let Err(why) = measure(&options, &mut figures) {
        eprintln!("race: {why}");
        return ExitCode::FAILURE;
    }
    println!("{}\n", figures.machine);
    for race in options.races.iter().filter(|_| !options.is_marks_only) {
        print!("{}", figures.tables(race.name()));
        println!("{}", promises::text(&figures, race.name()));
    }
    print!("{}", marks::table(&figures));
    match figures.save(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("race: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the races, or takes over what earlier ones found.
fn measure(options: &Options, figures: &mut Figures) -> Result<(), String> {
    if !options.from.is_empty() {
        return options.from.iter().try_for_each(|file| figures.load(file));
    }
    figures.machine = program::machine();
    if options.races.contains(&Race::Groups) {
        groups::run(options, figures)?;
    }
    let roads = options.races.iter().copied().filter(|race| *race != Race::Groups);
    match roads.collect::<Vec<Race>>().as_slice() {
        [] => Ok(()),
        roads => roads::run(roads, options, figures),
    }
}
