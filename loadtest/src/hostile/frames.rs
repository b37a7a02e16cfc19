//! Hand-written HTTP/2 frames (RFC 9113, RFC 7541), because a client library would refuse to send them.

/// The connection preface.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The error code CANCEL.
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface and the first SETTINGS with the initial window of streams.
pub(super) fn opening(window_bytes: u32) -> Vec<u8> {
    [PREFACE, &settings(window_bytes)].concat()
}

/// A SETTINGS frame with one setting.
pub(super) fn settings(window_bytes: u32) -> Vec<u8> {
    let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window_bytes.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &setting)
}

/// A PING frame.
pub(super) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8])
}

/// An empty DATA frame without END_STREAM.
pub(super) fn empty_data(stream: u32) -> Vec<u8> {
    frame(DATA, 0, stream, &[])
}

/// A RST_STREAM frame with CANCEL.
pub(super) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// The head of a request: a GET without a body, or a PUT with a body to come.
pub(super) fn request(stream: u32, is_get: bool, path: &str, authority: &str) -> Vec<u8> {
    // Fields of the static table: `:method: GET` is 2, `:scheme: https` is 7; literals without indexing name
    // `:method` (2), `:path` (4) and `:authority` (1).
    let mut block = if is_get { vec![0x82] } else { literal(2, "PUT") };
    block.push(0x87);
    block.extend(literal(4, path));
    block.extend(literal(1, authority));
    let flags = if is_get { END_HEADERS | END_STREAM } else { END_HEADERS };
    frame(HEADERS, flags, stream, &block)
}

/// A field with an indexed name and a literal value of at most 126 bytes.
fn literal(name: u8, value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX).min(126);
    [&[name, length], &value.as_bytes()[..usize::from(length)]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_encoded() {
        assert_eq!(empty_data(1), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(reset(3), [0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8]);
        assert_eq!(ping()[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
        let get = request(1, true, "/b", "a");
        assert_eq!(get, [&[0, 0, 9, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 4, 2][..], b"/b", &[1, 1], b"a"].concat());
    }
}
