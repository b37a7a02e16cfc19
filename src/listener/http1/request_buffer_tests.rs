//! The pieces of a body that the application reads, and the unread rest.

use futures_util::task::noop_waker;

use super::*;

type Piece = Option<Result<Bytes, PayloadError>>;

fn poll(body: &mut RequestPayload) -> Poll<Piece> {
    let waker = noop_waker();
    Pin::new(body).poll_next(&mut Context::from_waker(&waker))
}

fn piece(body: &mut RequestPayload) -> Bytes {
    match poll(body) {
        Poll::Ready(Some(Ok(piece))) => piece,
        other => panic!("{other:?}"),
    }
}

fn begun(length: BodyLength, expects: bool, arrived: &[u8]) -> (Rc<RefCell<RequestBuffer>>, RequestPayload) {
    let inbound = RequestBuffer::new();
    inbound.borrow_mut().buffer.extend_from_slice(arrived);
    let body = RequestBuffer::begin_body(&inbound, length, expects).unwrap();
    (inbound, body)
}

/// V10: a body in chunks of one byte is collected into a few pieces
#[test]
fn small_pieces_are_collected() {
    let (inbound, mut body) = begun(BodyLength::Chunked, false, "1\r\nx\r\n".repeat(5000).as_bytes());
    assert_eq!(piece(&mut body), "x".repeat(5000).as_bytes());
    assert!(poll(&mut body).is_pending() && inbound.borrow().is_awaited());
    inbound.borrow_mut().buffer.extend_from_slice(b"2\r\nab\r\n0\r\n\r\nGET");
    assert_eq!(piece(&mut body), b"ab"[..]);
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
    assert_eq!(inbound.borrow_mut().begin_response(), UnreadBody::Complete);
    assert_eq!(inbound.borrow().buffer[..], b"GET"[..]);
}

/// M3: a long piece is not copied, a short one does not keep the buffer
#[test]
fn long_pieces_are_parts_of_the_buffer() {
    let (inbound, mut body) = begun(BodyLength::Known(6000), false, &[b'x'; 5000]);
    let from = inbound.borrow().buffer.as_ptr();
    let long = piece(&mut body);
    assert_eq!((long.as_ptr(), long.len()), (from, 5000));
    inbound.borrow_mut().buffer.extend_from_slice(&[b'y'; 1000]);
    let from = inbound.borrow().buffer.as_ptr();
    assert_ne!(piece(&mut body).as_ptr(), from);
    assert!(inbound.borrow().has_ended());
}

/// V1: malformed framing is a distinct error, after the data before it, and for every further poll
#[test]
fn bad_chunks_come_after_the_data_before_them() {
    let (inbound, mut body) = begun(BodyLength::Chunked, false, b"2\r\nab\r\nzz\r\n");
    assert_eq!(piece(&mut body), b"ab"[..]);
    for _ in 0..2 {
        let Poll::Ready(Some(Err(PayloadError::Io(error)))) = poll(&mut body) else { panic!("an error") };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    drop(body);
    assert_eq!(inbound.borrow_mut().begin_response(), UnreadBody::Unknown);
}

/// E1: the 100 is due when the body is polled and no byte of it has arrived
#[test]
fn the_100_is_due_once() {
    let (inbound, mut body) = begun(BodyLength::Known(4), true, b"");
    assert!(!inbound.borrow_mut().take_continue(), "the body was not polled");
    assert!(poll(&mut body).is_pending());
    assert!(inbound.borrow_mut().take_continue() && !inbound.borrow_mut().take_continue());
    let (inbound, mut body) = begun(BodyLength::Known(4), true, b"ab");
    assert_eq!(piece(&mut body), b"ab"[..]);
    assert!(poll(&mut body).is_pending());
    assert!(!inbound.borrow_mut().take_continue(), "the client does not wait");
}

/// V1: the unread rest of a body decides on the connection
#[test]
fn the_unread_rest_of_a_body_is_known_or_unknown() {
    let rest = |length, expects, arrived: &[u8]| {
        let (inbound, body) = begun(length, expects, arrived);
        drop(body);
        inbound.borrow_mut().begin_response()
    };
    assert_eq!(rest(BodyLength::Known(4), false, b"abcd"), UnreadBody::Complete);
    assert_eq!(rest(BodyLength::Known(4), false, b"ab"), UnreadBody::Bytes(2));
    assert_eq!(rest(BodyLength::Known(4), true, b""), UnreadBody::Unknown, "the client may send it or not");
    assert_eq!(rest(BodyLength::Chunked, false, b"2\r\nab\r\n0\r\n\r\n"), UnreadBody::Complete);
    assert_eq!(rest(BodyLength::Chunked, false, b"2\r\nab"), UnreadBody::Unknown);
    let (inbound, _body) = begun(BodyLength::Known(4), false, b"ab");
    assert_eq!(inbound.borrow_mut().begin_response(), UnreadBody::Unknown, "the application still holds it");
}

/// V1: a body that outlives its request does not read bytes of the next
#[test]
fn a_body_ends_with_its_request() {
    let (inbound, mut first) = begun(BodyLength::Known(4), false, b"");
    let second = RequestBuffer::begin_body(&inbound, BodyLength::Known(2), false);
    inbound.borrow_mut().buffer.extend_from_slice(b"ab");
    assert!(matches!(poll(&mut first), Poll::Ready(Some(Err(PayloadError::Incomplete(None))))));
    drop(first);
    assert_eq!(piece(&mut second.unwrap()), b"ab"[..]);
}
