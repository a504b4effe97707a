//! Durable groups: every member is killed at once, and all come back with what was certain.

use std::{collections::BTreeSet, fs, thread, time::Duration, time::Instant};

use rustix::process::Signal;

use crate::stage::{Cluster, Folder, Member, PATIENCE, is_long};

const MEMBERS: usize = 3;

/// Directories of members, and what they were told is certain.
struct Stage {
    folder: Folder,
    cluster: Cluster,
    certain: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let folder = Folder::new();
        let flags = |rank: usize| {
            let place = folder.path(&format!("m{rank}"));
            ["--reliability", "atomic", "--durable", &place].map(str::to_owned).to_vec()
        };
        let cluster = Cluster::start_with(MEMBERS, None, flags);
        Self { folder, cluster, certain: Vec::new() }
    }

    fn state(&self, rank: usize) -> Vec<u8> {
        fs::read(self.folder.path(&format!("m{rank}/state"))).unwrap()
    }

    /// All multicast as fast as they can, and are killed in the midst of it. The state of each then.
    fn crash(&mut self, round: usize) -> Vec<Vec<u8>> {
        let line = |rank: usize, number: usize| format!("{round}/m{rank}/{number}");
        for (rank, member) in self.cluster.members.iter().enumerate() {
            (0..4000).for_each(|number| member.say(&line(rank, number)));
        }
        let is_in_flood = |member: &Member| receipts(member) > 100;
        let deadline = Instant::now() + PATIENCE;
        while !self.cluster.members.iter().all(is_in_flood) {
            assert!(Instant::now() < deadline, "nothing is certain");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(7 * (round as u64 % 10)));
        self.cluster.members.iter().for_each(|member| member.signal(Signal::KILL));
        self.cluster.members.iter_mut().for_each(Member::kill);
        for (rank, member) in self.cluster.members.iter().enumerate() {
            self.certain.extend((0..receipts(member)).map(|number| line(rank, number)));
        }
        (0..MEMBERS).map(|rank| self.state(rank)).collect()
    }

    /// All come back by the same command lines. What all have then begins with what each had.
    fn come_back(&mut self, before: &[Vec<u8>]) {
        for member in &mut self.cluster.members {
            *member = Member::start(member.spec.clone());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states: Vec<Vec<u8>> = (0..MEMBERS).map(|rank| self.state(rank)).collect();
            let lacking = self.lacking(&states[0]);
            let is_one = states.iter().all(|state| *state == states[0]);
            let begins = before.iter().all(|before| states[0].starts_with(before));
            if is_one && begins && lacking.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                let lens: Vec<usize> = states.iter().map(Vec::len).collect();
                let errors = self.cluster.members.iter().map(Member::errors).collect::<String>();
                panic!("one order {is_one}, kept {begins}, {lens:?}: {lacking:?} {errors:.2000}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.cluster.until_whole(None);
        self.cluster.until_rest();
    }

    /// What is certain and not there, or there twice; some of it.
    fn lacking(&self, state: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(state);
        let lines: Vec<&str> = text.lines().collect();
        let known: BTreeSet<&str> = lines.iter().copied().collect();
        assert_eq!(known.len(), lines.len(), "a message is there twice");
        let lacking = self.certain.iter().filter(|line| !known.contains(line.as_str()));
        lacking.take(5).cloned().collect()
    }
}

fn receipts(member: &Member) -> usize {
    let heard = member.heard();
    heard.lines.iter().filter(|line| line.starts_with("{\"event\":\"receipt\"")).count()
}

//= GUARANTEES.md#GROUP-DURABLE-1
#[test]
fn scenario_61_a_group_that_is_killed_as_a_whole_comes_back_with_all_that_was_certain() {
    let rounds = if is_long() { 20 } else { 3 };
    let mut stage = Stage::new();
    for round in 0..rounds {
        let before = stage.crash(round);
        stage.come_back(&before);
    }
    println!(
        "{rounds} times all of {MEMBERS} were killed in full flood: all of {} receipts kept, one \
         order",
        stage.certain.len()
    );
}

//= GUARANTEES.md#GROUP-DURABLE-1
#[test]
fn a_member_whose_disk_is_lost_comes_back_as_a_stranger_and_gets_the_state() {
    let mut stage = Stage::new();
    let before = stage.crash(0);
    fs::remove_dir_all(stage.folder.path("m1")).unwrap();
    fs::create_dir(stage.folder.path("m1")).unwrap();
    fs::write(stage.folder.path("m1/state"), "not of this group\n").unwrap();
    stage.come_back(&before);
}

#[test]
fn a_directory_is_of_one_group_and_of_one_process() {
    let mut stage = Stage::new();
    let place = stage.folder.path("m0");
    let mut spec = stage.cluster.members[0].spec.clone();
    spec.name = "other".to_owned();
    spec.listen = "tcp://127.0.0.1:0".to_owned();
    let mut second = Member::start(spec.clone());
    assert_eq!(second.wait(), Some(1), "{}", second.errors());
    assert!(second.errors().contains("in use by another process"), "{}", second.errors());
    stage.cluster.members[0].kill();
    spec.flags = ["--reliability", "uniform", "--durable", &place].map(str::to_owned).to_vec();
    spec.listen.clone_from(&stage.cluster.members[0].spec.listen);
    let mut other = Member::start(spec);
    assert_eq!(other.wait(), Some(5), "{}", other.errors());
    assert!(other.errors().contains("another order or reliability"), "{}", other.errors());
}
