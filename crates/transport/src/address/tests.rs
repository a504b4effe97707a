//! Tables of addresses, good and bad.

use super::*;

fn parse(text: &str) -> Result<Address, AddressError> {
    text.parse()
}

#[test]
fn good_addresses_and_their_canonical_form() {
    // text, canonical, endpoint, channel, loopback
    let table = [
        ("tcp://127.0.0.1:7400/orders", "", "tcp://127.0.0.1:7400", Some("orders"), true),
        ("tcp://127.0.0.1:7400", "", "tcp://127.0.0.1:7400", None, true),
        ("TCP://[0:0::1]:7400/o", "tcp://[::1]:7400/o", "tcp://[::1]:7400", Some("o"), true),
        ("tcp://[fe80::1%3]:7400/o", "", "tcp://[fe80::1%3]:7400", Some("o"), false),
        ("tcp://[::ffff:127.0.0.1]:1/o", "", "tcp://[::ffff:127.0.0.1]:1", Some("o"), true),
        (
            "udp://Host-1.Example:0/x",
            "udp://host-1.example:0/x",
            "udp://host-1.example:0",
            Some("x"),
            false,
        ),
        ("udp://localhost:65535/x", "", "udp://localhost:65535", Some("x"), true),
        ("tcp://0.0.0.0:80/a/b/c", "", "tcp://0.0.0.0:80", Some("a/b/c"), false),
        ("tcp://10.1.2.3:080/a", "tcp://10.1.2.3:80/a", "tcp://10.1.2.3:80", Some("a"), false),
        ("unix:///run/kitchen.sock/orders", "", "unix:///run/kitchen.sock", Some("orders"), true),
        ("unix:///run/kitchen.sock", "", "unix:///run/kitchen.sock", None, true),
        ("unix://./a.sock/x/y", "", "unix://./a.sock", Some("x/y"), true),
        ("unix://a.sock/x", "unix://./a.sock/x", "unix://./a.sock", Some("x"), true),
        ("unix://../a.sock/b.sock", "", "unix://../a.sock", Some("b.sock"), true),
        ("inproc://kitchen/orders", "", "inproc://kitchen", Some("orders"), true),
        ("shm:///run/frames.sock/frames", "", "shm:///run/frames.sock", Some("frames"), true),
        ("shm://a.sock/x", "shm://./a.sock/x", "shm://./a.sock", Some("x"), true),
        ("mq:///kitchen/orders/eu", "", "mq:///kitchen", Some("orders/eu"), true),
        ("MQ:///kitchen", "mq:///kitchen", "mq:///kitchen", None, true),
        ("mq:///kitchen/orders?plain", "", "mq:///kitchen?plain", Some("orders"), true),
        ("udp://10.0.0.7:1/x?plain", "", "udp://10.0.0.7:1?plain", Some("x"), false),
        ("mq:///kitchen?plain", "", "mq:///kitchen?plain", None, true),
        ("pipe:/orders", "", "pipe:", Some("orders"), true),
        ("PIPE:", "pipe:", "pipe:", None, true),
        ("pipe:///orders", "pipe:/orders", "pipe:", Some("orders"), true),
        ("inproc://küche/größe 1", "", "inproc://küche", Some("größe 1"), true),
    ];
    for (text, canonical, endpoint, channel, is_loopback) in table {
        let address = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let canonical = if canonical.is_empty() { text } else { canonical };
        assert_eq!(address.to_string(), canonical);
        assert_eq!(address.endpoint(), endpoint);
        assert_eq!(address.channel(), channel);
        assert_eq!(address.is_loopback(), is_loopback, "{text}");
        assert_eq!(parse(canonical).unwrap(), address, "canonical form parses to the same");
        assert!(canonical.starts_with(address.scheme().as_str()));
    }
}

#[test]
fn bad_addresses_and_why() {
    use AddressError as E;
    type Is = fn(&AddressError) -> bool;
    let is_kind: [(&str, Is); 40] = [
        ("", |e| matches!(e, E::NoScheme { .. })),
        ("127.0.0.1:7400", |e| matches!(e, E::NoScheme { .. })),
        ("tcp:/127.0.0.1:7400", |e| matches!(e, E::NoScheme { .. })),
        ("tpc://h:1", |e| matches!(e, E::UnknownScheme { nearest: Some("tcp"), .. })),
        ("uxin://h", |e| matches!(e, E::UnknownScheme { nearest: Some("unix"), .. })),
        ("inprocs://h", |e| matches!(e, E::UnknownScheme { nearest: Some("inproc"), .. })),
        ("gopher://h:1", |e| matches!(e, E::UnknownScheme { nearest: None, .. })),
        ("://h:1", |e| matches!(e, E::UnknownScheme { nearest: None, .. })),
        ("quic://h:1", |e| matches!(e, E::NotBuilt { scheme: "quic" })),
        ("KAFKA://h:1", |e| matches!(e, E::NotBuilt { scheme: "kafka" })),
        ("shm://", |e| matches!(e, E::NoAuthority { .. })),
        ("shm:///run/frames", |e| matches!(e, E::NoSocketFile { .. })),
        ("mq://", |e| matches!(e, E::NoAuthority { .. })),
        ("mq://kitchen/orders", |e| matches!(e, E::NoAuthority { .. })),
        ("mq:////orders", |e| matches!(e, E::NoAuthority { .. })),
        ("mq:///k/", |e| matches!(e, E::BadChannel { .. })),
        ("pipe:orders", |e| matches!(e, E::BadAuthority { .. })),
        ("tcp://h:1/x?plain", |e| matches!(e, E::NotPlain { scheme: Scheme::Tcp })),
        ("tcp://", |e| matches!(e, E::NoAuthority { .. })),
        ("tcp:///orders", |e| matches!(e, E::NoAuthority { .. })),
        ("tcp://:7400/x", |e| matches!(e, E::NoAuthority { .. })),
        ("unix://", |e| matches!(e, E::NoAuthority { .. })),
        ("inproc:///x", |e| matches!(e, E::NoAuthority { .. })),
        ("tcp://host/x", |e| matches!(e, E::BadPort { .. })),
        ("tcp://host:/x", |e| matches!(e, E::BadPort { .. })),
        ("tcp://host:65536/x", |e| matches!(e, E::BadPort { .. })),
        ("tcp://host:+80/x", |e| matches!(e, E::BadPort { .. })),
        ("tcp://[::1]/x", |e| matches!(e, E::BadPort { .. })),
        ("tcp://[::1:80/x", |e| matches!(e, E::BadAuthority { .. })),
        ("tcp://::1:80/x", |e| matches!(e, E::BadAuthority { .. })),
        ("tcp://1.2.3.400:80/x", |e| matches!(e, E::BadAuthority { .. })),
        ("tcp://user@host:80/x", |e| matches!(e, E::BadAuthority { .. })),
        ("tcp://a..b:80/x", |e| matches!(e, E::BadAuthority { .. })),
        ("inproc://a\nb/x", |e| matches!(e, E::BadAuthority { .. })),
        ("unix:///run/kitchen/orders", |e| matches!(e, E::NoSocketFile { .. })),
        ("unix:///run/kitchen.socket/x", |e| matches!(e, E::NoSocketFile { .. })),
        ("tcp://h:1/", |e| matches!(e, E::BadChannel { .. })),
        ("tcp://h:1/a//b", |e| matches!(e, E::BadChannel { .. })),
        ("unix:///a.sock/x/", |e| matches!(e, E::BadChannel { .. })),
        ("inproc://a/b\u{7}", |e| matches!(e, E::BadChannel { .. })),
    ];
    for (text, is_expected) in is_kind {
        let error = parse(text).expect_err(text);
        assert!(is_expected(&error), "{text}: {error:?}");
        assert!(!error.to_string().is_empty() && !error.to_string().contains('\n'));
    }
}

#[test]
fn limits_are_exact() {
    assert!(parse(&format!("tcp://h:1/{}", "c".repeat(255))).is_ok());
    assert!(parse(&format!("tcp://h:1/{}", "c".repeat(256))).is_err());
    assert!(parse(&format!("unix:///{}.sock", "p".repeat(101))).is_ok());
    assert!(parse(&format!("unix:///{}.sock", "p".repeat(102))).is_err());
}

#[test]
fn the_hint_is_a_sentence() {
    let error = parse("upd://h:1/x").unwrap_err();
    assert_eq!(error.to_string(), "`upd` is not a transport; did you mean `udp`?");
    assert_eq!(parse("gopher://h").unwrap_err().to_string(), "`gopher` is not a transport");
}

#[test]
fn channel_and_port_can_be_replaced() {
    let tcp = parse("tcp://127.0.0.1:0/a").unwrap();
    assert_eq!(tcp.with_port(9).to_string(), "tcp://127.0.0.1:9/a");
    assert_eq!(parse("udp://h:1").unwrap().with_port(9).to_string(), "udp://h:9");
    assert_eq!(tcp.with_channel("b/c").unwrap().to_string(), "tcp://127.0.0.1:0/b/c");
    assert!(tcp.with_channel("").is_err());
    let unix = parse("unix:///a.sock").unwrap();
    assert_eq!(unix.with_port(9), unix);
}
