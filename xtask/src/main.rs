//! The command line of the chores: `cargo xtask <command>`. What they do is in the library.

use std::process::ExitCode;

use xtask::{steps, suite, tidy};

const HELP: &str = "\
cargo xtask <command>

  check [STEP...]     all that CI runs, or only these: fmt clippy deny tidy docs test sabotage
  test [ARGS...]      every test of the workspace; the command of the README
  sabotage [ARGS...]  break the core on purpose and see that the simulator notices
  tidy                judge the source tree: edges, sizes, bans, promises without a test
  docs                build the documentation, warnings are errors
  race [RACE...]      measure tidings against what one would use instead

`cargo xtask <command> --help` says more.";

const CHECK: &str = "\
cargo xtask check [STEP...]

Runs all that CI runs, one step after another, goes on after a failure and sums up at the end.
  fmt       cargo fmt --check
  clippy    every target of the workspace, warnings are errors
  deny      cargo deny check: advisories, licences, bans, sources (says so where it is not installed)
  tidy      cargo xtask tidy
  docs      cargo xtask docs
  test      cargo xtask test
  sabotage  cargo xtask sabotage --seeds 2000";

const TEST: &str = "\
cargo xtask test [ARGS...]

Builds the release binary, then runs every test: units, documentation, conformance, simulator seeds,
end to end with real processes, examples. Tests that need an optimised build (targets named
`release`) run once more in the release profile.

Tests find the release binary in $TIDINGS_BIN. A test whose machine lacks something prints
`NOT RUN: <test>: <why>`; those lines are repeated at the end, and with $CI set they are failures.

ARGS go to `cargo test` in place of `--workspace`, for example `-p tidings-core breaker`.";

const SABOTAGE: &str = "\
cargo xtask sabotage [ARGS...]

Builds the simulator with the deliberate bugs of the core compiled in, in a target directory of its
own (target-sabotage), and runs it: each bug must be caught by a checker. ARGS go to that program;
`--help` after `--` prints its own.";

const TIDY: &str = "\
cargo xtask tidy

Prints every violation as path:line, what it is and what to do:
  edges between the crates, async and sockets outside their rooms, unsafe outside its folder;
  files over 500 lines before their tests and functions over 70 (exceptions, which only shrink,
  are in xtask/ratchet.txt); files that no `mod` reaches; files without a first `//!` line;
  allow attributes, todo!, unimplemented!, dbg!, ignored doc tests, TODO without an issue, absolute
  paths of somebody's machine; promises of GUARANTEES.md that no test cites.";

const DOCS: &str = "\
cargo xtask docs

Builds the documentation of every library of the workspace; a warning (a broken link, say) fails.";

const RACE: &str = "\
cargo xtask race [groups|tcp|unix|udp|shm|inproc|owned|requests|uring]... [--rounds 5] [--json FILE]
    [--plot FOLDER] [--from FILE] [--marks]

Builds the programs of benches/peers, a workspace of its own, and runs tidings and its peers in turn.
A peer that is not installed is named with the command that installs it, and left out. `--help` after
`--` prints every option.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let wants_help = rest.first().is_some_and(|first| first == "--help" || first == "-h");
    let rest = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
    let help = match command {
        "check" => CHECK,
        "test" => TEST,
        "sabotage" => SABOTAGE,
        "tidy" => TIDY,
        "docs" => DOCS,
        "race" => RACE,
        "help" | "--help" | "-h" => HELP,
        other => {
            eprintln!("there is no command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if wants_help || help == HELP {
        println!("{help}");
        return ExitCode::SUCCESS;
    }
    let ended = xtask::root().and_then(|root| match command {
        "check" => steps::check(&root, rest),
        "test" => suite::run(&root, rest),
        "sabotage" => steps::sabotage(&root, rest),
        "tidy" => tidy::run(&root),
        "race" => steps::race(&root, rest),
        _ => steps::docs(&root),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {command}: {why}");
            ExitCode::FAILURE
        }
    }
}
