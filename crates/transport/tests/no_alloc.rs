//! The hot path does not allocate after warm-up: counted, one thread, through the public door.
#![expect(unsafe_code, reason = "counting allocations takes a global allocator")]
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking, as it does")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::poll_fn,
    io::IoSlice,
};

use bytes::BytesMut;
use tidings_transport::{Connection, Options, bind, connect};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local that
// needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` above with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn exchange(near: &dyn Connection, far: &dyn Connection, into: &mut BytesMut) {
    let (head, tail) = ([1; 16], [2; 1000]);
    let packet = [IoSlice::new(&head), IoSlice::new(&tail)];
    near.try_send(&[packet; 8]).unwrap();
    into.clear();
    while into.len() < 8 * 1016 {
        // Nothing is slower than loopback: what was sent is there, or about to be.
        let _ = far.try_recv(into, 32 << 10);
    }
}

#[tokio::test]
async fn sending_and_receiving_allocate_nothing() {
    let file = std::env::temp_dir().join(format!("tidings-alloc-{}.sock", std::process::id()));
    let unix = format!("unix://{}/x", file.display());
    let shm = unix.replace("unix", "shm");
    for text in ["tcp://127.0.0.1:0/x", &unix, &shm, "inproc://no-alloc/x", "udp://127.0.0.1:0/x"] {
        let listener = bind(&text.parse().unwrap(), &Options::default()).await.unwrap();
        let near = connect(&listener.local(), &Options::default()).await.unwrap();
        near.try_send(&[[IoSlice::new(b"hello"), IoSlice::new(b"")]]).unwrap();
        let far = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let mut into = BytesMut::with_capacity(64 << 10);
        poll_fn(|cx| far.poll_recv(cx, &mut into, 100)).await.unwrap();
        exchange(&*near, &*far, &mut into);
        let before = COUNT.get();
        for _ in 0..100 {
            exchange(&*near, &*far, &mut into);
            assert!(far.try_recv(&mut into, 32 << 10).is_err());
        }
        assert_eq!(COUNT.get() - before, 0, "{text}");
    }
}
