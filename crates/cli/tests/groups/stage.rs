//! Members that are processes: what goes into them, what they say and when, and their end.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::net::Net;

/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The group of most tests: what is hardest to keep.
pub const ATOMIC: [&str; 4] = ["--order", "total", "--reliability", "atomic"];
/// What the peers of old lose messages with.
pub const RELIABLE: [&str; 4] = ["--order", "fifo", "--reliability", "reliable"];

/// Whether the long run was asked for.
pub fn is_long() -> bool {
    std::env::var_os("TIDINGS_LONG").is_some()
}

pub fn ms(time: Duration) -> u128 {
    time.as_millis()
}

/// A folder of a test's own; removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tid-g-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a member is started.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub listen: String,
    pub contacts: Vec<String>,
    pub flags: Vec<String>,
    /// The process whose network it lives in; none: the host's.
    pub network: Option<u32>,
    /// Whether its standard output is read from the start.
    pub is_read: bool,
}

impl Spec {
    pub fn new(name: &str, contacts: &[&str], flags: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            name: name.to_owned(),
            listen: "tcp://127.0.0.1:0".to_owned(),
            contacts: owned(contacts),
            flags: owned(flags),
            network: None,
            is_read: true,
        }
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_tidings");
        let mut command = match self.network {
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &pid.to_string(), "-n", program]);
                command
            }
            None => Command::new(program),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        command.args(["group", "join", "g", "--json", "--insecure"]);
        command.args(["--listen", &self.listen, "--member", &self.name]);
        for contact in &self.contacts {
            command.args(["--contact", contact]);
        }
        command.args(&self.flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// An event that is neither a message nor a receipt.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Instant,
    pub value: Value,
}

impl Event {
    pub fn is(&self, kind: &str) -> bool {
        self.value["event"] == kind
    }

    /// The view and its members, if it is one.
    pub fn view(&self) -> Option<(u64, Vec<&str>)> {
        let members = self.value["members"].as_array().filter(|_| self.is("view"))?;
        Some((self.value["view"].as_u64()?, members.iter().filter_map(Value::as_str).collect()))
    }
}

/// What a member has said.
#[derive(Default)]
pub struct Heard {
    pub lines: Vec<String>,
    pub events: Vec<Event>,
    /// Each sender's last message.
    last: BTreeMap<String, String>,
    heard_at: Option<Instant>,
}

impl Heard {
    fn hear(&mut self, line: String) {
        let at = Instant::now();
        self.heard_at = Some(at);
        if line.starts_with("{\"event\":\"message\"") {
            let from = line.split("\"from\":\"").nth(1).and_then(|rest| rest.split('"').next());
            self.last.insert(from.unwrap_or_default().to_owned(), line.clone());
        } else if !line.starts_with("{\"event\":\"receipt\"") {
            let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let event = Event { at, value };
            if event.is("excluded") {
                self.last.clear(); // it comes back as a newcomer
            }
            self.events.push(event);
        }
        self.lines.push(line);
    }
}

enum Input {
    Line(String),
    /// So many lines, again and again, with a pause between; bodies of so many bytes.
    Flood(usize, Duration, usize),
    Quiet,
}

/// A process that is a member; killed with the test.
pub struct Member {
    pub spec: Spec,
    child: Child,
    stdout: Option<ChildStdout>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    errors: Arc<Mutex<String>>,
    input: Sender<Input>,
    sent: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

impl Member {
    pub fn start(spec: Spec) -> Self {
        let mut child = spec.command().spawn().unwrap();
        let (input, orders) = channel();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (sent, errors) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, name) = (sent.clone(), spec.name.clone());
        thread::spawn(move || {
            let _ = write(&name, stdin, &orders, &count); // it may end without reading it all
        });
        let texts = errors.clone();
        thread::spawn(move || {
            let mut line = String::new();
            while let Ok(1..) = stderr.read_line(&mut line) {
                texts.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let is_read = spec.is_read;
        let mut member = Self { spec, child, stdout, heard, errors, input, sent, reader: None };
        if is_read {
            member.read();
        }
        member
    }

    /// Begins to read what it says.
    pub fn read(&mut self) {
        let Some(stdout) = self.stdout.take() else { return };
        let heard = self.heard.clone();
        self.reader = Some(thread::spawn(move || {
            let mut stdout = BufReader::with_capacity(64 << 10, stdout);
            let mut line = Vec::new();
            while let Ok(1..) = stdout.by_ref().read_until(b'\n', &mut line) {
                if line.pop() != Some(b'\n') {
                    return; // killed in the middle of it
                }
                let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
                heard.0.lock().unwrap().hear(text);
                heard.1.notify_all();
            }
        }));
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens, once it does; for its next life too.
    pub fn address(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let address = loop {
            let text = self.errors();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut found = lines.filter_map(|line| Some(line["address"].as_str()?.to_owned()));
            if let Some(address) = found.next() {
                break address;
            }
            assert!(Instant::now() < deadline, "{} does not listen: {text}", self.name());
            thread::sleep(Duration::from_millis(2));
        };
        self.spec.listen.clone_from(&address);
        address
    }

    /// How often it was excluded, and joined again.
    pub fn exclusions(&self) -> usize {
        self.heard().events.iter().filter(|event| event.is("excluded")).count()
    }

    /// What it wrote to standard error.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    pub fn say(&self, line: &str) {
        self.input.send(Input::Line(line.to_owned())).unwrap();
    }

    /// `lines` of `len` bytes at a time, with a pause between, until it is to be quiet.
    pub fn flood(&self, lines: usize, pause: Duration, len: usize) {
        self.input.send(Input::Flood(lines, pause, len)).unwrap();
    }

    pub fn quiet(&self) {
        let _ = self.input.send(Input::Quiet);
    }

    /// Lines of its floods so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.0.lock().unwrap()
    }

    /// Waits until its events satisfy `find`.
    pub fn until<T>(&self, what: &str, mut find: impl FnMut(&[Event]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.heard();
        loop {
            if let Some(found) = find(&heard.events) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(heard);
                panic!("no {what}: {}\n{}", self.tail(), self.errors());
            }
            heard = self.heard.1.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Waits for the first view after `since` that has exactly these members, in any order; when.
    pub fn until_view(&self, since: Instant, members: &[&str]) -> (Instant, u64) {
        let mut wanted = members.to_vec();
        wanted.sort_unstable();
        self.until(&format!("view of {wanted:?}"), |events| {
            events.iter().filter(|event| event.at >= since).find_map(|event| {
                let (id, mut members) = event.view()?;
                members.sort_unstable();
                (members == wanted).then_some((event.at, id))
            })
        })
    }

    /// The first event of this kind after `since`; when.
    pub fn until_event(&self, since: Instant, kind: &str) -> Event {
        self.until(kind, |events| {
            events.iter().find(|event| event.at >= since && event.is(kind)).cloned()
        })
    }

    /// The view that it saw last.
    pub fn last_view(&self) -> (u64, Vec<String>) {
        let heard = self.heard();
        let view = heard.events.iter().rev().find_map(Event::view).unwrap();
        (view.0, view.1.into_iter().map(str::to_owned).collect())
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// `kill -9`; all that it had said is there afterwards.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.wait();
    }

    /// Waits until it ends by itself; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end: {}", self.name(), self.errors());
            thread::sleep(Duration::from_millis(2));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.code()
    }

    /// Its last events, for people.
    fn tail(&self) -> String {
        let heard = self.heard();
        let events = heard.events.iter().rev().take(8).rev();
        let events: Vec<_> = events
            .map(|event| {
                format!("  {:?} ago: {:.300}", event.at.elapsed(), event.value.to_string())
            })
            .collect();
        format!("{} ({} lines):\n{}", self.name(), heard.lines.len(), events.join("\n"))
    }

    /// Bytes of memory that it occupies.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(
    name: &str,
    mut stdin: ChildStdin,
    orders: &Receiver<Input>,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    let mut flood = None;
    let mut number = 0;
    loop {
        let pause = flood.map_or(PATIENCE, |(_, pause, _)| pause);
        match orders.recv_timeout(pause) {
            Ok(Input::Line(line)) => writeln!(stdin, "{line}")?,
            Ok(Input::Flood(lines, pause, len)) => flood = Some((lines, pause, len)),
            Ok(Input::Quiet) => flood = None,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if let Some((lines, _, len)) = flood {
            let mut text = String::new();
            for _ in 0..lines {
                text.push_str(&format!("{:-<len$}\n", format!("{name}/{number}")));
                number += 1;
            }
            sent.store(number, Ordering::SeqCst); // before: what is written may be delivered at once
            stdin.write_all(text.as_bytes())?;
        }
    }
}

/// Members of one group, and those that have been killed.
pub struct Cluster {
    pub members: Vec<Member>,
    pub gone: Vec<Member>,
    lives: u32,
}

impl Cluster {
    /// Founds a group of `count` and waits until all are in one view.
    pub fn start(count: usize, flags: &[&str], net: Option<&Net>) -> Self {
        Self::start_with(count, net, |_| flags.iter().map(|flag| (*flag).to_owned()).collect())
    }

    pub fn start_with(
        count: usize,
        net: Option<&Net>,
        flags: impl Fn(usize) -> Vec<String>,
    ) -> Self {
        let mut members: Vec<Member> = Vec::new();
        let mut addresses = Vec::new();
        for rank in 0..count {
            let mut spec = Spec::new(&format!("m{rank}"), &[], &[]);
            spec.flags = flags(rank);
            spec.contacts.clone_from(&addresses);
            if let Some(net) = net {
                spec.listen = net.address(rank);
                spec.network = Some(net.pid(rank));
            }
            let mut member = Member::start(spec);
            addresses.push(member.address());
            members.push(member);
        }
        for (rank, member) in members.iter_mut().enumerate() {
            member.spec.contacts.clone_from(&addresses); // for its next life
            member.spec.contacts.remove(rank);
        }
        let cluster = Self { members, gone: Vec::new(), lives: 0 };
        cluster.until_whole(None);
        cluster.until_rest();
        cluster
    }

    pub fn names(&self) -> Vec<&str> {
        self.members.iter().map(Member::name).collect()
    }

    /// Waits until all have seen one view of all, after `since`.
    pub fn until_whole(&self, since: Option<Instant>) {
        let names = self.names();
        for member in &self.members {
            let since = since.unwrap_or_else(|| Instant::now() - PATIENCE);
            member.until_view(since, &names);
        }
    }

    /// Who coordinates, as most have it.
    pub fn coordinator(&self) -> usize {
        let newest = self.members.iter().map(Member::last_view).max().unwrap();
        self.members.iter().position(|member| member.name() == newest.1[0]).unwrap()
    }

    /// `kill -9`, and waits until all others have a view without it: how long that took each.
    pub fn crash(&mut self, rank: usize) -> Vec<Duration> {
        let since = Instant::now();
        self.members[rank].kill();
        let dead = self.members[rank].name().to_owned();
        let others = self.members.iter().filter(|member| member.name() != dead);
        others
            .map(|member| {
                let at = member.until(&format!("view without {dead}"), |events| {
                    events.iter().filter(|event| event.at >= since).find_map(|event| {
                        let (_, members) = event.view()?;
                        (!members.contains(&dead.as_str())).then_some(event.at)
                    })
                });
                at - since
            })
            .collect()
    }

    /// Starts a killed one anew, at its address and under a new name, and waits for it to be in.
    pub fn restart(&mut self, rank: usize) {
        let mut spec = self.members[rank].spec.clone();
        self.lives += 1;
        spec.name = format!("m{rank}.{}", self.lives);
        let member = Member::start(spec);
        self.gone.push(std::mem::replace(&mut self.members[rank], member));
        self.until_whole(None);
    }

    /// Waits until no view has come for a while: newcomers are full members soon after they come.
    pub fn until_rest(&self) {
        let is_resting = |member: &Member| {
            let heard = member.heard();
            let last = heard.events.iter().rev().find(|event| event.is("view"));
            last.is_none_or(|event| event.at.elapsed() > Duration::from_millis(200))
        };
        let deadline = Instant::now() + PATIENCE;
        while !self.members.iter().all(is_resting) {
            assert!(Instant::now() < deadline, "one view follows another");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the floods and waits until all have delivered the same of everyone, and rest.
    pub fn settle(&self) {
        self.members.iter().for_each(Member::quiet);
        let deadline = Instant::now() + PATIENCE;
        loop {
            thread::sleep(Duration::from_millis(50));
            let now = Instant::now();
            let is_resting = |member: &Member| {
                member.heard().heard_at.is_none_or(|at| now - at > Duration::from_millis(500))
            };
            let ends: Vec<_> = self.members.iter().map(|of| self.ends(of)).collect();
            // A newcomer has nothing of what was before.
            let is_same = ends.iter().all(|ends| {
                let mut ends = ends.iter().flatten();
                ends.next().is_none_or(|first| ends.all(|end| end == first))
            });
            if is_same && self.members.iter().all(is_resting) {
                return;
            }
            if now > deadline {
                self.members.iter().for_each(|member| println!("{}", member.tail()));
                panic!("they do not come to rest: {ends:#?}");
            }
        }
    }

    /// The last message of a member, as each has it.
    fn ends(&self, of: &Member) -> Vec<Option<String>> {
        let last = |member: &Member| member.heard().last.get(of.name()).cloned();
        self.members.iter().map(last).collect()
    }
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
