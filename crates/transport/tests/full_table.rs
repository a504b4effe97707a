//! A full table of descriptors at accept. Alone in its process, because the table is shared.

use std::{fs::File, future::poll_fn, io::IoSlice, pin::pin, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings_transport::{BindError, ConnectError, Options, bind, connect};

#[tokio::test]
async fn accepting_rests_while_the_table_is_full_and_then_goes_on() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), ..limit }).unwrap();
    let file = std::env::temp_dir().join(format!("tidings-full-{}.sock", std::process::id()));
    for text in [
        "tcp://127.0.0.1:0/x".to_owned(),
        format!("unix://{}/x", file.display()),
        format!("shm://{}/x", file.display()),
    ] {
        let address = text.parse().unwrap();
        let listener = bind(&address, &Options::default()).await.unwrap();
        let near = connect(&listener.local(), &Options::default()).await.unwrap();
        let mut fillers = Vec::new();
        while let Ok(filler) = File::open("/dev/null") {
            fillers.push(filler);
        }
        let error = connect(&listener.local(), &Options::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::FdTableFull { .. }), "{error}");
        let error = bind(&address, &Options::default()).await.unwrap_err();
        assert!(matches!(error, BindError::FdTableFull { .. }), "{error}");

        let mut accepting = pin!(poll_fn(|cx| listener.poll_accept(cx)));
        let mut polls = 0;
        let rest = tokio::time::sleep(Duration::from_millis(300));
        let mut rest = pin!(rest);
        poll_fn(|cx| {
            polls += 1;
            assert!(accepting.as_mut().poll(cx).is_pending(), "there is no descriptor to give");
            rest.as_mut().poll(cx)
        })
        .await;
        assert!(polls < 100, "it spun: {polls} polls");
        drop(fillers);
        let far = accepting.await.unwrap();
        near.try_send(&[[IoSlice::new(b"late"), IoSlice::new(b"")]]).unwrap();
        let mut into = bytes::BytesMut::new();
        let heard = poll_fn(|cx| far.poll_recv(cx, &mut into, 100)).await.unwrap();
        assert_eq!(heard.len, 4);
    }
}
