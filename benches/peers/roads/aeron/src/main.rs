//! Aeron: an exclusive publication each way, claimed in place where a message fits into one fragment; both
//! ends spin. In order; over UDP what is lost is asked for again, over IPC nothing is lost while both live.

mod driver;

use std::ffi::CString;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use driver::{Driver, Settings};
use ends::{Args, Count, Failed, Flood, Times};
use rusteron_client::{
    Aeron, AeronContext, AeronExclusivePublication, AeronFragmentClosureAssembler, AeronHeader,
    AeronSubscription, Handlers, IntoCString,
};

const THERE: i32 = 1001;
const BACK: i32 = 1002;
/// Looks in vain before the client has its turn.
const LOOKS: u32 = 256;
/// Longer than finding each other takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// In which the far end maps what it will read.
const SETTLING: Duration = Duration::from_millis(200);

/// A client and, if it is this end's business, its driver.
struct End {
    aeron: Aeron,
    driver: Driver,
    settings: Settings,
    looks: u32,
}

impl End {
    fn open(driver: Driver, folder: &str, settings: Settings) -> Result<Self, Failed> {
        let context = AeronContext::new()?;
        context.set_dir(&folder.into_c_string())?;
        context.set_use_conductor_agent_invoker(true)?;
        context.set_pre_touch_mapped_memory(true)?;
        let aeron = Aeron::new(&context)?;
        aeron.start()?;
        Ok(Self { aeron, driver, settings, looks: 0 })
    }

    /// What is not on the messages' own way, and the driver where this thread is its only one.
    fn work(&self) -> Result<(), Failed> {
        self.driver.work()?;
        self.aeron.main_do_work()?;
        Ok(())
    }

    /// Nothing came, or nothing could be sent.
    #[inline]
    fn idle(&mut self) -> Result<(), Failed> {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            self.aeron.main_do_work()?;
        }
        if self.settings.yields {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        self.driver.work()
    }

    /// Works until it is there.
    fn until<T>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<T>, Failed>,
    ) -> Result<T, Failed> {
        let since = Instant::now();
        loop {
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            if since.elapsed() > PATIENCE {
                return Err("the ends did not find each other".into());
            }
            self.work()?;
        }
    }

    fn publication(&self, at: &str, stream: i32) -> Result<AeronExclusivePublication, Failed> {
        let channel = CString::new(at)?;
        let adding = self.aeron.async_add_exclusive_publication(&channel, stream)?;
        self.until(|| Ok(adding.poll()?))
    }

    fn subscription(&self, at: &str, stream: i32) -> Result<AeronSubscription, Failed> {
        let channel = CString::new(at)?;
        let (no, image) = (Handlers::NONE, Handlers::NONE);
        let adding = self.aeron.async_add_subscription(&channel, stream, no, image)?;
        self.until(|| Ok(adding.poll()?))
    }

    /// As soon as there is room.
    fn send(
        &mut self,
        out: &AeronExclusivePublication,
        body: &[u8],
        in_place_max: usize,
    ) -> Result<(), Failed> {
        loop {
            let sent = if body.len() <= in_place_max {
                match out.try_claim_owned(body.len()) {
                    Ok(mut claim) => {
                        claim.data().copy_from_slice(body);
                        claim.commit()?;
                        return Ok(());
                    }
                    Err(why) => Err(why),
                }
            } else {
                out.offer(body)
            };
            match sent {
                Ok(_) => break,
                Err(error) if error.is_retryable() => self.idle()?,
                Err(error) => return Err(error.to_string().into()),
            }
        }
        Ok(())
    }
}

/// Where the far end listens, where it answers to, and the folder of its driver, which both use over IPC.
struct Where {
    there: String,
    back: String,
    folder: String,
}

impl Where {
    fn free(road: &str, folder: &str) -> Result<(String, Self), Failed> {
        let port = || Ok::<u16, Failed>(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port());
        let line = format!("{} {} {folder}", port()?, port()?);
        let place = Self::parse(road, &line)?;
        Ok((line, place))
    }

    fn parse(road: &str, line: &str) -> Result<Self, Failed> {
        let [there, back, folder] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err("not `PORT PORT FOLDER`".into());
        };
        let channel = |port: &str| match road {
            "ipc" => "aeron:ipc".to_owned(),
            _ => format!("aeron:udp?endpoint=127.0.0.1:{port}"),
        };
        Ok(Self { there: channel(there), back: channel(back), folder: folder.to_owned() })
    }
}

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    let settings = Settings::read(&args)?;
    if args.is_far { far(&args, settings) } else { near(&args, settings) }
}

fn far(args: &Args, settings: Settings) -> Result<(), Failed> {
    let folder = driver::folder("far");
    let driver = Driver::start(&folder, &settings)?;
    let mut end = End::open(driver, &folder, settings)?;
    let (line, place) = Where::free(&args.road, &folder)?;
    let input = end.subscription(&place.there, THERE)?;
    let output = match args.what.as_str() {
        "send" => None,
        _ => Some(end.publication(&place.back, BACK)?),
    };
    let in_place_max = end.settings.in_place_max();
    ends::listening(&line);
    let mut counts = Count::default();
    let mut assembler = AeronFragmentClosureAssembler::new()?;
    let mut echo = Vec::new();
    loop {
        let came = if let Some(output) = &output {
            let came = input.poll_fn(
                |body, _| {
                    echo.clear();
                    echo.extend_from_slice(body);
                },
                1,
            )?;
            if came > 0 {
                end.send(output, &echo, in_place_max)?;
            }
            came
        } else if args.size <= in_place_max {
            input.poll_fn(
                |body, _| {
                    counts.see(body);
                },
                end.settings.fragments,
            )?
        } else {
            let see = |counts: &mut Count, body: &[u8], _: AeronHeader| {
                counts.see(body);
            };
            assembler.poll(&input, &mut counts, see, end.settings.fragments)?
        };
        if came == 0 || end.settings.is_invoked() {
            end.idle()?;
        }
    }
}

fn near(args: &Args, settings: Settings) -> Result<(), Failed> {
    let place = Where::parse(&args.road, &args.address)?;
    let (driver, folder) = match args.road.as_str() {
        "ipc" => (Driver::Elsewhere, place.folder.clone()),
        _ => {
            let folder = driver::folder("near");
            (Driver::start(&folder, &settings)?, folder)
        }
    };
    let mut end = End::open(driver, &folder, settings)?;
    let output = end.publication(&place.there, THERE)?;
    let in_place_max = end.settings.in_place_max();
    let input = match args.what.as_str() {
        "send" => None,
        _ => Some(end.subscription(&place.back, BACK)?),
    };
    end.until(|| {
        let hears = input.as_ref().is_none_or(|input| input.image_count().unwrap_or(0) > 0);
        Ok((output.is_connected() && hears).then_some(()))
    })?;
    let since = Instant::now();
    while since.elapsed() < SETTLING {
        end.work()?;
    }
    for folder in [&folder, &place.folder] {
        let _ = std::fs::remove_dir_all(folder); // mapped by now: nothing is left when we are killed
    }
    let duration = ends::begin()?;
    let Some(input) = input else {
        let mut flood = Flood::new(args.size, duration);
        while let Some(body) = flood.next_body() {
            end.send(&output, body, in_place_max)?;
        }
        flood.report();
        loop {
            end.idle()?; // what was lost is sent again; the parent ends us
        }
    };
    let body = vec![0x5a; args.size];
    let mut times = Times::new(duration);
    while times.ask() {
        end.send(&output, &body, in_place_max)?;
        while input.poll_fn(|_, _| (), 1)? == 0 {
            end.idle()?;
        }
        times.answered();
    }
    times.report();
    Ok(())
}
