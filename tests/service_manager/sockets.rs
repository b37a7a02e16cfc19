//! Socket activation: the listening sockets are open before the gateway starts, and stay open after it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use socket2::{Domain, Socket, Type};

use crate::support::gateway::{Builder, ExitReport};
use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, get, wait_until};

/// The flag O_CLOEXEC in `/proc/PID/fdinfo`, in octal.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

fn open_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A socket that is bound to a free port and does not listen. With `SO_REUSEADDR` another socket can listen there.
fn reserved_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// The descriptors of a gateway that refer to this socket.
fn descriptors_of(gateway: &Gateway, socket: impl AsFd) -> Vec<u32> {
    let link = |path: String| fs::read_link(path).ok();
    let wanted = link(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd()));
    let folder = fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number: &u32| link(format!("/proc/{}/fd/{number}", gateway.pid())) == wanted).collect()
}

async fn run(builder: Builder) -> ExitReport {
    tokio::task::spawn_blocking(move || builder.run()).await.unwrap()
}

/// G8, C5: a socket with the name of a listener is used, over the second start of the program that takes secrets out of the
/// environment; no child would inherit it
#[tokio::test]
async fn a_named_socket_is_used() {
    let upstream = Upstream::ok("x");
    let (socket, address) = open_socket();
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("keys.k.access_key_id", "AKIAEXAMPLE")
        .set("keys.k.secret", "a-secret-of-a-client-key-0123456789")
        .set("keys.k.policy", "p")
        .set("policies.p.buckets", "b")
        .set("policies.p.methods", "read")
        .pass(&socket, &["data"])
        .start()
        .await;
    assert_eq!(gateway.address(), address);
    assert_ne!(gateway.admin_address(), address);
    let line = gateway.wait_for_log_line("listening", |_| true).await;
    assert_eq!(line["inherited"], "data");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(gateway.admin("/livez").await.complete_status(), 200);
    let environment = fs::read(format!("/proc/{}/environ", gateway.pid())).unwrap();
    assert!(
        !String::from_utf8_lossy(&environment).contains("a-secret-of-a-client-key"),
        "it has not started again"
    );
    let descriptors = descriptors_of(&gateway, &socket);
    assert_eq!(descriptors.len(), 1, "{descriptors:?}");
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", gateway.pid(), descriptors[0])).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    assert_ne!(
        u32::from_str_radix(flags.trim(), 8).unwrap() & CLOSE_ON_EXEC,
        0,
        "a child would inherit it: {info}"
    );
}

/// G8: a socket with the name that systemd gives by itself is that of the listener with its address
#[tokio::test]
async fn a_socket_without_a_name_is_matched_by_its_address() {
    let upstream = Upstream::ok("x");
    for name in ["", "unknown", "tidegate.socket"] {
        for (listener, key) in [("data", "server.port"), ("admin", "admin.port")] {
            let (socket, address) = open_socket();
            let builder = Gateway::builder().bucket("b", &upstream).set(key, &address.port().to_string());
            let gateway = builder.pass(&socket, &[name]).start().await;
            let line = gateway.wait_for_log_line("listening", |_| true).await;
            assert_eq!(line["inherited"], listener, "{name:?}");
            assert_eq!(get(address, "/livez").await.status / 100 == 2, listener == "admin", "{name:?}");
        }
    }
}

/// G8: a named socket has another port than the configuration: the gateway serves there and warns
#[tokio::test]
async fn another_port_than_the_configured_one_is_a_warning() {
    let upstream = Upstream::ok("x");
    let ((socket, address), (_reserved, configured)) = (open_socket(), reserved_port());
    let port = configured.port().to_string();
    let builder = Gateway::builder().bucket("b", &upstream).set("server.port", &port);
    let gateway = builder.pass(&socket, &["data"]).start().await;
    assert_eq!(gateway.address(), address);
    let message = "the listener has the port of the inherited socket, not the configured one";
    let line = gateway.wait_for_log_line(message, |line| line["listener"] == "data").await;
    assert!(line["hint"].as_str().unwrap().contains(&address.port().to_string()), "{line}");
}

/// G8, G4: a restart loses no connection: those that arrive after the drain has begun wait in the socket for the next process, and
/// the request that the first process serves ends
#[tokio::test]
async fn connections_wait_in_the_socket_for_the_next_process() {
    let latch = Latch::new();
    let held = latch.clone();
    let slow = Upstream::start(move |_| UpstreamReply::ok("begin").then_body_when_open(&held, "end"));
    let (socket, address) = open_socket();
    let mut first = Gateway::builder().bucket("b", &slow).pass(&socket, &["data"]).start().await;
    let mut served = Client::connect(address).await;
    served.send(client::message("GET", "/b/k", &[], None)).await;
    let mut answer = served.head().await;
    first.send_sigterm();
    wait_until("the first process has closed the socket", || descriptors_of(&first, &socket).is_empty())
        .await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(address).await;
        client.send(client::message("GET", "/b/k", &[], None)).await;
        waiting.push(client);
    }
    latch.open_for_all();
    served.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    assert_eq!(first.wait_exit().await.code(), Some(0));
    waiting.push(Client::connect(address).await);
    waiting.last_mut().unwrap().send(client::message("GET", "/b/k", &[], None)).await;

    let fast = Upstream::ok("x");
    let second = Gateway::builder().bucket("b", &fast).pass(&socket, &["data"]).start().await;
    for client in &mut waiting {
        let answer = client.response("GET").await;
        assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "x"));
    }
    assert_eq!((slow.count(), fast.count()), (1, 21));
    assert_eq!(second.address(), address);
}

/// G8: accepted connections of an inherited socket have the options of the gateway's own: a client that stops reading is closed by
/// the kernel after `server.write_stall_timeout`
#[tokio::test]
async fn an_inherited_socket_gets_the_options_of_the_gateway() {
    let upstream = Upstream::ok("x");
    let (socket, _) = open_socket();
    let reference = socket2::SockRef::from(&socket);
    assert!(!reference.nonblocking().unwrap());
    let receive_buffer = reference.recv_buffer_size().unwrap();
    let builder = Gateway::builder().bucket("b", &upstream).set("server.write_stall_timeout", "17");
    let _gateway = builder.pass(&socket, &["data"]).start().await;
    // The test has the same open socket.
    assert!(reference.nonblocking().unwrap());
    assert_eq!(reference.tcp_user_timeout().unwrap(), Some(std::time::Duration::from_secs(17)));
    assert!(reference.recv_buffer_size().unwrap() < receive_buffer);
}

/// Bad input: a descriptor that no listener can use ends the start with 78 and one error that names the fix
#[tokio::test]
async fn a_useless_socket_ends_the_start() {
    let (socket, address) = open_socket();
    let connected = TcpStream::connect(address).unwrap();
    let (bound, _) = reserved_port();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = File::open("/dev/null").unwrap();
    let listens = |descriptor: OwnedFd, names: &'static [&'static str]| (descriptor, names);
    let cases = [
        (
            listens(socket.as_fd().try_clone_to_owned().unwrap(), &["amdin"]),
            ["`amdin`", "FileDescriptorName="],
        ),
        (
            listens(socket.as_fd().try_clone_to_owned().unwrap(), &[""]),
            ["configured at", "FileDescriptorName=data"],
        ),
        (listens(socket.into(), &["data", "data"]), ["two sockets for the listener `data`", "remove one"]),
        (listens(connected.into(), &["data"]), ["does not listen", "Accept=no"]),
        (listens(bound.into(), &["data"]), ["does not listen", "ListenStream="]),
        (listens(datagram.into(), &["data"]), ["descriptor 3", "ListenStream="]),
        (listens(file.into(), &["data"]), ["not a socket", "ListenStream="]),
    ];
    let upstream = Upstream::ok("x");
    for ((descriptor, names), words) in cases {
        let builder = Gateway::builder().bucket("b", &upstream).pass(&descriptor, names);
        let ExitReport { code, stderr, .. } = run(builder).await;
        assert_eq!(code, Some(78), "{names:?}: {stderr}");
        assert_eq!(stderr.trim().lines().count(), 1, "one clear error: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{words:?} in {stderr}");
    }
}

/// G8: sockets for another process are not used: the gateway opens its own
#[tokio::test]
async fn sockets_of_another_process_are_not_used() {
    let upstream = Upstream::ok("x");
    let builder = Gateway::builder().bucket("b", &upstream);
    let foreign = builder.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "data");
    let gateway = foreign.start().await;
    let line = gateway.wait_for_log_line("listening", |_| true).await;
    assert_eq!(line.get("inherited"), None, "{line}");
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}

/// G8: systemd's own launcher passes both sockets; the connection that starts the gateway is served
#[tokio::test]
async fn systemd_passes_both_sockets() {
    let upstream = Upstream::ok("x");
    let ((_data, data), (_admin, admin)) = (reserved_port(), reserved_port());
    let builder = Gateway::builder().bucket("b", &upstream);
    let (mut gateway, mut first) = builder.start_by_connection((data, admin), "data:admin").await;
    let line = gateway.wait_for_log_line("listening", |_| true).await;
    assert_eq!(line["inherited"], "data, admin");
    first.send(client::message("GET", "/b/k", &[], None)).await;
    assert_eq!(first.response("GET").await.complete_status(), 200);
    assert_eq!(gateway.admin("/livez").await.complete_status(), 200);
    gateway.send_sigterm();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}
