//! The media driver of an end: its settings, and which thread does its work.

use std::ffi::CString;

use ends::{Args, Failed};
use rusteron_media_driver::bindings::aeron_threading_mode_enum as Mode;
use rusteron_media_driver::{AeronDriver, AeronDriverContext};

/// What a packet holds beside its message.
const HEADER: usize = 32;

/// Where the driver keeps its files; they are taken away as soon as both ends have mapped them.
pub fn folder(end: &str) -> String {
    format!("/dev/shm/race-aeron-{end}-{}", std::process::id())
}

/// The best that was found on two cores; others can be tried by `RACE_AERON="driver=shared mtu=8192"`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `invoker`: the end's own thread works; `shared`, `network`, `dedicated`: threads beside it.
    driver: String,
    /// How the driver's threads wait.
    idle: String,
    /// Packets of UDP, fragments of IPC.
    mtu: usize,
    /// A publication may be half a term ahead.
    term: usize,
    /// What the receiver lets come before it says more.
    window: usize,
    /// The socket's buffers.
    socket: usize,
    /// What a receiver takes before the driver has its turn.
    pub fragments: usize,
    /// Ends that have nothing to do yield their core.
    pub yields: bool,
}

impl Settings {
    pub fn read(args: &Args) -> Result<Self, Failed> {
        let is_ipc = args.road == "ipc";
        let small_max = if is_ipc { 1024 } else { 16_384 };
        let mut settings = Self {
            driver: "invoker".to_owned(),
            idle: "spin".to_owned(),
            mtu: 65_504,
            term: if args.size > small_max { 8 << 20 } else { 1 << 20 },
            window: 2 << 20,
            socket: 4 << 20,
            fragments: if is_ipc { 16 } else { 64 },
            yields: false,
        };
        for word in std::env::var("RACE_AERON").unwrap_or_default().split_whitespace() {
            let (key, value) = word.split_once('=').ok_or("RACE_AERON is not KEY=VALUE...")?;
            let number = || value.parse::<usize>();
            match key {
                "driver" => settings.driver = value.to_owned(),
                "idle" => settings.idle = value.to_owned(),
                "mtu" => settings.mtu = number()?,
                "term" => settings.term = number()?,
                "window" => settings.window = number()?,
                "socket" => settings.socket = number()?,
                "fragments" => settings.fragments = number()?,
                "yields" => settings.yields = number()? > 0,
                _ => return Err(format!("RACE_AERON knows no `{key}`").into()),
            }
        }
        Ok(settings)
    }

    /// The longest message that one fragment holds.
    pub fn in_place_max(&self) -> usize {
        self.mtu.saturating_sub(HEADER)
    }

    pub fn is_invoked(&self) -> bool {
        self.driver == "invoker"
    }

    fn mode(&self) -> Mode {
        match self.driver.as_str() {
            "invoker" => Mode::AERON_THREADING_MODE_INVOKER,
            "shared" => Mode::AERON_THREADING_MODE_SHARED,
            "network" => Mode::AERON_THREADING_MODE_SHARED_NETWORK,
            _ => Mode::AERON_THREADING_MODE_DEDICATED,
        }
    }

    fn context(&self, folder: &str) -> Result<AeronDriverContext, Failed> {
        let context = AeronDriverContext::new()?;
        let idle = CString::new(self.idle.as_str())?;
        context.set_dir(&CString::new(folder)?)?;
        context.set_dir_delete_on_start(true)?;
        context.set_threading_mode(self.mode())?;
        context.set_shared_idle_strategy(&idle)?;
        context.set_sharednetwork_idle_strategy(&idle)?;
        context.set_conductor_idle_strategy(&idle)?;
        context.set_sender_idle_strategy(&idle)?;
        context.set_receiver_idle_strategy(&idle)?;
        context.set_term_buffer_sparse_file(false)?;
        context.set_term_buffer_length(self.term)?;
        context.set_ipc_term_buffer_length(self.term)?;
        context.set_mtu_length(self.mtu)?;
        context.set_ipc_mtu_length(self.mtu)?;
        context.set_socket_so_rcvbuf(self.socket)?;
        context.set_socket_so_sndbuf(self.socket)?;
        context.set_rcv_initial_window_length(self.window)?;
        Ok(context)
    }
}

/// Who does the driver's work.
pub enum Driver {
    /// Another process.
    Elsewhere,
    /// This thread, between messages.
    Invoked(AeronDriver),
    /// Threads of its own, as long as this lives.
    Beside { _driver: AeronDriver },
}

impl Driver {
    pub fn start(folder: &str, settings: &Settings) -> Result<Self, Failed> {
        let driver = AeronDriver::new(&settings.context(folder)?)?;
        driver.start(settings.is_invoked())?;
        Ok(match settings.is_invoked() {
            true => Self::Invoked(driver),
            false => Self::Beside { _driver: driver },
        })
    }

    #[inline]
    pub fn work(&self) -> Result<(), Failed> {
        if let Self::Invoked(driver) = self {
            driver.main_do_work()?;
        }
        Ok(())
    }
}
