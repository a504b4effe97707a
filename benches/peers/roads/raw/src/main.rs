//! The limit: both ends on raw sockets, or on the bare ring of shared memory, as a careful program would
//! write it: large batches one way, blocking. No frames and no guarantee but the kernel's.

mod ring;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use ends::{Args, Count, Failed, Flood, Times};
use ring::Ring;

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    let mut end = if args.is_far { accept(&args)? } else { connect(&args)? };
    match (args.is_far, args.what.as_str()) {
        (true, "send") => sink(&mut *end, args.size)?,
        (true, _) => {
            let mut body = vec![0; args.size];
            while end.read_exact(&mut body).is_ok() {
                end.write_all(&body)?;
            }
        }
        (false, "send") => send(&mut *end, &args)?,
        (false, _) => {
            let mut body = vec![0x5a; args.size];
            let mut times = Times::new(ends::begin()?);
            while times.ask() {
                end.write_all(&body)?;
                end.read_exact(&mut body)?;
                times.answered();
            }
            times.report();
        }
    }
    Ok(())
}

fn socket_path() -> String {
    format!("{}/race-raw-{}.sock", std::env::temp_dir().display(), std::process::id())
}

fn accept(args: &Args) -> Result<Box<dyn Both>, Failed> {
    match args.road.as_str() {
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            ends::listening(&listener.local_addr()?.to_string());
            let stream = listener.accept()?.0;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        "unix" => {
            let listener = UnixListener::bind(socket_path())?;
            ends::listening(&socket_path());
            let stream = listener.accept()?.0;
            std::fs::remove_file(socket_path())?;
            Ok(Box::new(stream))
        }
        _ => {
            let address = format!("shm://{}", socket_path());
            let is_spinning = args.road.ends_with("+spin");
            Ok(Box::new(Ring::accept(&address.parse()?, is_spinning, || {
                ends::listening(&address)
            })?))
        }
    }
}

fn connect(args: &Args) -> Result<Box<dyn Both>, Failed> {
    match args.road.as_str() {
        "tcp" => {
            let stream = TcpStream::connect(&args.address)?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        "unix" => Ok(Box::new(UnixStream::connect(&args.address)?)),
        _ => Ok(Box::new(Ring::connect(&args.address.parse()?, args.road.ends_with("+spin"))?)),
    }
}

/// The best batch on this machine's loopback, by road.
fn batch(road: &str) -> usize {
    match road {
        "unix" => 16 << 10,
        "tcp" => 32 << 10,
        _ => 64 << 10,
    }
}

fn send(end: &mut dyn Both, args: &Args) -> Result<(), Failed> {
    let mut flood = Flood::new(args.size, ends::begin()?);
    let mut batch = Vec::with_capacity(batch(&args.road));
    while let Some(body) = flood.next_body() {
        if body.len() >= batch.capacity() {
            end.write_all(body)?;
            continue;
        }
        if batch.len() + body.len() > batch.capacity() {
            end.write_all(&batch)?;
            batch.clear();
        }
        batch.extend_from_slice(body);
    }
    end.write_all(&batch)?;
    flood.report();
    std::thread::sleep(std::time::Duration::from_secs(30)); // the parent ends us
    Ok(())
}

/// Reads as much as there is and looks at each whole message in it.
fn sink(end: &mut dyn Both, size: usize) -> io::Result<()> {
    let mut count = Count::default();
    let mut buffer = vec![0; (256 << 10) + size];
    let mut filled = 0;
    loop {
        let read = end.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let whole = filled / size * size;
        for body in buffer[..whole].chunks_exact(size) {
            count.see(body);
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
