//! What the tests share: folders of their own, processes that end with the test, deadlines.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A process that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of a test's own, in which its processes run; removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a socket file has at most 107 bytes.
        let path = std::env::temp_dir().join(format!("tid-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// An address that nobody listens on yet.
    pub fn unix(&self, channel: &str) -> String {
        format!("unix://{}/{channel}", self.path("a.sock").display())
    }

    /// The program, with nothing of this machine's configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .current_dir(&self.0)
            .env("XDG_CONFIG_HOME", self.path("none"))
            .env("XDG_STATE_HOME", self.path("state"));
        command
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args), b"")
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        self.start(args).wait()
    }

    pub fn run_with(&self, args: &[&str], stdin: &[u8]) -> Done {
        Running::start(self.command(args), stdin).wait()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a stream has brought so far.
#[derive(Clone, Default)]
struct Gathered(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Gathered {
    fn gather(&self, mut from: impl Read + Send + 'static) -> JoinHandle<()> {
        let shared = self.0.clone();
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(len @ 1..) = from.read(&mut buffer) {
                shared.0.lock().unwrap().extend_from_slice(&buffer[..len]);
                shared.1.notify_all();
            }
        })
    }

    /// Waits until what came satisfies `find`.
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&[u8]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&bytes) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: {}", String::from_utf8_lossy(&bytes));
            bytes = self.0.1.wait_timeout(bytes, left).unwrap().0;
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().clone()
    }
}

/// A process that runs; killed with the test.
pub struct Running {
    child: Child,
    stdout: Gathered,
    stderr: Gathered,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn start(mut command: Command, stdin: &[u8]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (Gathered::default(), Gathered::default());
        let readers = vec![
            stdout.gather(child.stdout.take().unwrap()),
            stderr.gather(child.stderr.take().unwrap()),
        ];
        let (mut input, bytes) = (child.stdin.take().unwrap(), stdin.to_vec());
        // It may end without reading it all.
        thread::spawn(move || drop(input.write_all(&bytes)));
        Self { child, stdout, stderr, readers }
    }

    /// Where it listens, once it does.
    pub fn address(&self) -> String {
        self.stderr.wait("no `listening` on standard error", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().find_map(|line| match serde_json::from_str::<Value>(line) {
                Ok(line) => Some(line.get("address")?.as_str()?.to_owned()),
                Err(_) => {
                    let words = line.strip_prefix("listening").or(line.strip_prefix("answering"))?;
                    words.split_whitespace().find(|word| word.contains("://")).map(str::to_owned)
                }
            })
        })
    }

    /// Waits until it has printed so many lines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        self.stdout.wait("too few lines", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let whole = text.matches('\n').count();
            (whole >= count).then(|| text.lines().take(whole).map(str::to_owned).collect())
        })
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes()).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) -> Done {
        self.child.kill().unwrap();
        self.wait()
    }

    pub fn wait(mut self) -> Done {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let (stdout, stderr) = (self.stdout.bytes(), self.stderr.bytes());
                panic!(
                    "it does not end; stdout: {}\nstderr: {}",
                    String::from_utf8_lossy(&stdout),
                    String::from_utf8_lossy(&stderr)
                );
            }
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Done {
            code: status.code(),
            stdout: self.stdout.bytes(),
            stderr: String::from_utf8_lossy(&self.stderr.bytes()).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Done {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    /// Asserts the exit code, with all that the process said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON Lines: every line has to be an object.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let text = self.text();
        let parse = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(value.is_object(), "{line}");
            value
        };
        text.lines().map(parse).collect()
    }

    /// The lines of standard output that are of this event.
    pub fn events(&self, event: &str) -> Vec<Value> {
        self.json().into_iter().filter(|line| line["event"] == event).collect()
    }

    /// The error on standard error, with the fields that the contract has.
    #[track_caller]
    pub fn error(&self) -> Value {
        let errors: Vec<Value> = self
            .stderr
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("error").cloned())
            .collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        let error = &errors[0];
        assert!(
            error["code"].as_str().is_some_and(|code| code.starts_with('E') && code.len() == 5)
        );
        assert!(error["kind"].is_string() && error["message"].is_string());
        assert!(error["retryable"].is_boolean());
        assert!(error.get("hint").is_some());
        error.clone()
    }
}

/// The program's own path to a file that a test keeps outside of a folder.
pub fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
