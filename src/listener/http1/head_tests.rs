//! Valid and malformed heads, split at any byte, and compared with `httparse`.

use proptest::prelude::*;

use super::*;

/// Scans and parses bytes that arrive at once.
fn read(bytes: &[u8]) -> Result<Option<(RequestHead, HeadInfo, usize)>, HeadError> {
    let Some(length) = HeadScanner::default().end(bytes)? else { return Ok(None) };
    let mut head = RequestHead::default();
    let head_info = parse(&Bytes::copy_from_slice(&bytes[..length]), &mut head)?;
    Ok(Some((head, head_info, length)))
}

fn head_info(lines: &str) -> HeadInfo {
    let (_, head_info, _) = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap().unwrap();
    head_info
}

fn is_malformed(bytes: &[u8]) -> bool {
    matches!(read(bytes), Err(HeadError::Malformed(_)))
}

/// V1
#[test]
fn a_head_ends_with_its_empty_line() {
    let bytes =
        b"PUT /b/k?x=1 HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nx-two:  v \t\r\ncontent-length: 3\r\n\r\nabcGET";
    let (head, head_info, length) = read(bytes).unwrap().unwrap();
    assert_eq!(&bytes[length..], b"abcGET");
    assert_eq!(
        (head.method, head.uri.to_string(), head.version),
        (Method::PUT, "/b/k?x=1".into(), Version::HTTP_11)
    );
    let header = |name: &str| head.headers.get(name).unwrap().as_bytes();
    assert_eq!((header("host"), header("x-empty"), header("x-two")), (&b"a"[..], &b""[..], &b"v"[..]));
    assert_eq!((head_info.length, head_info.keeps_alive), (Some(BodyLength::Known(3)), true));
    assert!(read(b"\r\nGET / HTTP/1.1\r\n\r\n").unwrap().is_some(), "one empty line may come first");
    assert!(read(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap().is_none());
    assert!(
        read(b"").unwrap().is_none() && read(b"\r").unwrap().is_none() && read(b"\r\n").unwrap().is_none()
    );
}

/// V1, V3
#[test]
fn invalid_grammar_is_malformed() {
    for bytes in [
        &b"GET / HTTP/1.1\nhost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nhost: a\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\n",
        b"GET / HTTP/1.1\r\nhost: a\n\n",
        b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\rhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\r\n x: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x7fb\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x1bb\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx\xe9: a\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\n\r\n",
        b"GET /# HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET /a\x01 HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"G=T / HTTP/1.1\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b" GET / HTTP/1.1\r\n",
        b"GARBAGE\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert!(is_malformed(bytes), "{}", bytes.escape_ascii());
    }
}

/// V2
#[test]
fn heads_are_bounded_before_they_end() {
    let target = [b"GET /".to_vec(), vec![b'k'; HEAD_BYTES_MAX]].concat();
    assert_eq!(read(&target).unwrap_err(), HeadError::TargetTooLong);
    let value = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'v'; HEAD_BYTES_MAX]].concat();
    assert_eq!(read(&value).unwrap_err(), HeadError::TooLarge);
    assert_eq!(read(&[value, b"\r\n\r\n".to_vec()].concat()).unwrap_err(), HeadError::TooLarge);
    let many = |count: usize| format!("GET / HTTP/1.1\r\n{}", "x: v\r\n".repeat(count));
    assert_eq!(read(many(HEADERS_MAX + 1).as_bytes()).unwrap_err(), HeadError::TooLarge);
    let (head, ..) = read(format!("{}\r\n", many(HEADERS_MAX)).as_bytes()).unwrap().unwrap();
    assert_eq!(head.headers.len(), HEADERS_MAX);
}

/// V1: each form of a target is parsed unchanged; request validation decides which of them are served
#[test]
fn a_target_has_one_of_four_forms() {
    let uri = |target: &str| {
        let (head, ..) = read(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).unwrap().unwrap();
        (head.uri.authority().map(|authority| authority.to_string()), head.uri.path().to_owned())
    };
    assert_eq!(uri("/b//k%2F'\"|^{}\\%zz"), (None, "/b//k%2F'\"|^{}\\%zz".to_owned()));
    assert_eq!(uri("http://a:80/b/k"), (Some("a:80".to_owned()), "/b/k".to_owned()));
    assert_eq!(uri("*"), (None, "*".to_owned()));
    assert_eq!(uri("a:80"), (Some("a:80".to_owned()), String::new()));
}

/// V1: `Connection`, `Expect` and the version
#[test]
fn a_head_decides_on_persistence() {
    for (lines, keeps_alive) in [
        ("GET / HTTP/1.1", true),
        ("GET / HTTP/1.1\r\nconnection: close", false),
        ("GET / HTTP/1.1\r\nconnection: x, Close ,y", false),
        ("GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket", true),
        ("GET / HTTP/1.0", false),
        ("GET / HTTP/1.0\r\nconnection: Keep-Alive", true),
        ("GET / HTTP/1.0\r\nconnection: keep-alive\r\nconnection: close", false),
    ] {
        assert_eq!(head_info(lines).keeps_alive, keeps_alive, "{lines}");
    }
    assert!(head_info("PUT / HTTP/1.1\r\nexpect: 100-Continue").expects_continue);
    assert!(!head_info("PUT / HTTP/1.0\r\nexpect: 100-continue").expects_continue);
}

/// V1: a body is framed by its length even beside `Upgrade`; ambiguous framing has no length
#[test]
fn a_head_decides_on_body_framing() {
    let length = |lines: &str| head_info(&format!("POST / HTTP/1.1\r\n{lines}")).length;
    assert_eq!(length("x: y"), Some(BodyLength::Empty));
    assert_eq!(
        length("upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 5"),
        Some(BodyLength::Known(5))
    );
    assert_eq!(length("transfer-encoding: Chunked"), Some(BodyLength::Chunked));
    for ambiguous in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: +5",
        "content-length:",
        "transfer-encoding: identity",
    ] {
        assert_eq!(length(ambiguous), None, "{ambiguous}");
    }
    assert_eq!(head_info("POST / HTTP/1.0\r\ntransfer-encoding: chunked").length, None);
}

fn heads() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "GET",
        "PUT",
        " ",
        "/b/k",
        "/",
        "*",
        "http://a",
        "HTTP/1.1",
        "HTTP/1.0",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        ":",
        "host: a",
        "host: a\r\n",
        "content-length: 3",
        "transfer-encoding: chunked",
        "x",
        "#",
        "\t",
        "\0",
        "é",
        "%20",
        "connection: close",
    ]);
    let random = prop::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat());
    let plausible = prop::collection::vec(
        prop::sample::select(vec![
            "host: a",
            "x: y",
            "x:y ",
            "x: ",
            "a b",
            "x : y",
            " x",
            "x: \u{7f}",
            "x\n: y",
            "é: é",
            "x: é",
        ]),
        0..5,
    )
    .prop_map(|lines| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("GET /b/k HTTP/1.1\r\n{lines}\r\nrest")
    });
    prop_oneof![random, plausible].prop_map(String::into_bytes)
}

proptest! {
    /// V1: the end of a head does not depend on how the network splits it
    #[test]
    fn any_split_gives_the_same_head(bytes in heads(), cuts in prop::collection::vec(0_usize..200, 0..6)) {
        let whole = HeadScanner::default().end(&bytes);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let mut scan = HeadScanner::default();
        let mut split = Ok(None);
        for cut in cuts {
            split = scan.end(&bytes[..cut]);
            if !matches!(split, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(split, whole);
    }

    /// V1: every accepted head is accepted by `httparse` with the same names, values and end
    #[test]
    fn only_what_httparse_accepts_is_accepted(bytes in heads()) {
        if let Ok(Some((head, _, length))) = read(&bytes) {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut reference = httparse::Request::new(&mut headers);
            prop_assert_eq!(reference.parse(&bytes), Ok(httparse::Status::Complete(length)));
            prop_assert_eq!(reference.method, Some(head.method.as_str()));
            prop_assert_eq!(reference.headers.len(), head.headers.len());
            for header in reference.headers.iter() {
                prop_assert!(head.headers.get_all(header.name).any(|value| value.as_bytes() == header.value));
            }
            prop_assert!(!bytes[..length].windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r'));
        }
    }
}
