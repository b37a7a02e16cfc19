//! Fuzz target `forms`: uploads by HTML form, from the bytes of the form to its policy.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tidegate_s3::form::FormRejection;
use tidegate_s3::form::fields::FormFields;
use tidegate_s3::form::multipart::{Delimiter, FieldReader, FileDecoder, extract_file};
use tidegate_s3::form::policy::PostPolicy;
use tidegate_s3::form::success_action::SuccessAction;

use crate::fuzz_input::{Input, split};

/// The bucket in the policies of the corpus.
const BUCKET: &str = "b";
/// Headers that would change the operation or the framing of an upload.
const NEVER_A_HEADER: [&str; 6] = [
    "x-amz-copy-source",
    "content-length",
    "transfer-encoding",
    "host",
    "authorization",
    "x-amz-content-sha256",
];
/// The limit on the fields offset a file, with the line end that the parser adds offset the form.
const FIELD_BYTES_MAX: usize = (20 << 10) + 2;

/// Properties: the result does not depend on the slices of the input, a built form is parsed to its fields and file, a file does not
/// contain the closing boundary, no field becomes a header that changes the operation, and a policy that allows a form allows no additional
/// field and nothing after its expiration.
pub fn forms(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    if mode & 1 == 0 {
        any_form(cuts, input.rest());
    } else {
        round_trip(cuts, input);
    }
}

/// An input with a `Content-Type` in its first line, and then a form.
fn any_form(cuts: u8, bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (kind, form) = bytes.split_at(at);
    let form = form.get(1..).unwrap_or_default();
    let kind = std::str::from_utf8(kind).ok().and_then(|kind| Delimiter::from_content_type(kind.trim_end()));
    let Some(delimiter) = kind else { return };
    let whole = read(&delimiter, &[form]);
    for cuts in [1, cuts] {
        let cut = read(&delimiter, &split(form, cuts));
        assert_eq!(cut.is_ok(), whole.is_ok(), "cut by {cuts}: {cut:?} {whole:?}");
        if let (Ok(cut), Ok(whole)) = (cut, &whole) {
            assert_eq!(cut, *whole, "cut by {cuts}");
        }
    }
    let Ok(Some(FormHead { fields, file_name, offset })) = whole else { return };
    assert!(offset <= form.len() && offset <= FIELD_BYTES_MAX);
    check_file(&delimiter, &form[offset..], cuts);
    if let Ok(fields) = FormFields::from_parts(fields, &file_name) {
        check_fields(&fields);
    }
}

/// The part of a form offset the file's data.
#[derive(Debug, PartialEq)]
struct FormHead {
    fields: Vec<(String, String)>,
    file_name: String,
    offset: usize,
}

fn read(delimiter: &Delimiter, form: &[&[u8]]) -> Result<Option<FormHead>, FormRejection> {
    let mut reader = FieldReader::new(delimiter.clone());
    for piece in form {
        if let Some(part) = reader.push(piece)? {
            let offset = usize::try_from(part.offset).unwrap();
            return Ok(Some(FormHead { fields: part.fields, file_name: part.file_name, offset }));
        }
    }
    Ok(None)
}

/// Checks the file of a form, streamed and buffered.
fn check_file(delimiter: &Delimiter, rest: &[u8], cuts: u8) {
    let whole = decode_file(delimiter, &[rest], rest.len());
    for cuts in [1, cuts] {
        let cut = decode_file(delimiter, &split(rest, cuts), rest.len());
        assert_eq!(cut.is_some(), whole.is_some(), "cut by {cuts}");
        assert!(cut.is_none() || cut == whole, "cut by {cuts}");
    }
    let read = extract_file(Bytes::copy_from_slice(rest), delimiter).ok();
    if let Some(data) = &read {
        assert!(decode_file(delimiter, &[data], data.len()).is_none(), "a file contains its form's end");
    }
    if let Some(data) = whole {
        assert_eq!(read.as_deref(), Some(data.as_slice()), "the streamed file differs from the buffered one");
    }
}

fn decode_file(delimiter: &Delimiter, rest: &[&[u8]], bytes: usize) -> Option<Vec<u8>> {
    let mut decoder = FileDecoder::new(delimiter.clone(), bytes as u64).ok()?;
    let expected = decoder.remaining();
    let mut data = Vec::new();
    for piece in rest {
        let mut input = Bytes::copy_from_slice(piece);
        let piece = decoder.decode(&mut input).ok()?;
        assert!(input.is_empty());
        data.extend_from_slice(&piece.unwrap_or_default());
    }
    decoder.finish().ok()?;
    assert_eq!(data.len() as u64, expected, "the length of a file is computed ahead");
    Some(data)
}

fn check_fields(fields: &FormFields) {
    if let Ok(headers) = fields.headers() {
        for (name, _) in &headers {
            assert!(!NEVER_A_HEADER.contains(name), "a field became {name}");
        }
    }
    if let Ok(key) = fields.key() {
        assert!(!key.is_empty() && !key.contains('\0'));
    }
    if let SuccessAction::Redirect(page) = SuccessAction::from_fields(fields) {
        assert!(page.starts_with("http") && !page.contains(char::is_control), "{page}");
    }
    let Some(policy) = fields.get("policy").and_then(|policy| PostPolicy::parse(policy).ok()) else { return };
    check_policy(&policy, fields);
}

fn check_policy(policy: &PostPolicy, fields: &FormFields) {
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert!(policy.check(fields, BUCKET, far).is_err(), "the policy does not expire");
    let is_within = [0, 1, u64::MAX / 2, u64::MAX].map(|bytes| policy.check_length(bytes).is_ok());
    let changes = is_within.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= 2, "the allowed lengths are not a range: {is_within:?}");
    if policy.check(fields, BUCKET, SystemTime::UNIX_EPOCH).is_ok() {
        assert_eq!(fields.get("bucket").unwrap_or(BUCKET), BUCKET);
        let names: Vec<&str> = fields.names().collect();
        let unused =
            (0..).map(|n| format!("field-{n}")).find(|name| !names.contains(&name.as_str())).unwrap();
        let more =
            fields.names().map(|name| (name.to_owned(), fields.get(name).unwrap_or_default().to_owned()));
        let more =
            FormFields::from_parts(more.chain([(unused.clone(), String::new())]).collect(), "").unwrap();
        let result = policy.check(&more, BUCKET, SystemTime::UNIX_EPOCH);
        assert!(result.is_err(), "the policy has no condition for {unused}");
    }
}

/// A form with any fields and file, in the format of browsers.
fn round_trip(cuts: u8, mut input: Input<'_>) {
    let count = input.byte() & 7;
    let mut fields = Vec::new();
    for number in 0..count {
        let name = input.text(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        let value = String::from_utf8_lossy(input.bytes()).into_owned();
        fields.push((format!("{number}{name}"), value));
    }
    let policy = String::from_utf8_lossy(input.bytes()).into_owned();
    fields.push(("policy".to_owned(), STANDARD.encode(policy)));
    let data = input.rest();
    let boundary = "----tidegate-fuzzing-boundary";
    let is_inside = |text: &[u8]| memchr::memmem::find(text, boundary.as_bytes()).is_some();
    if is_inside(data) || fields.iter().any(|(_, value)| is_inside(value.as_bytes())) {
        return;
    }
    let mut form = Vec::new();
    for (name, value) in &fields {
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        form.extend_from_slice(head.as_bytes());
    }
    let head =
        "Content-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: text/plain";
    form.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
    let offset = form.len();
    form.extend_from_slice(data);
    form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());

    let delimiter =
        Delimiter::from_content_type(&format!("multipart/form-data; boundary={boundary}")).unwrap();
    let result = read(&delimiter, &split(&form, cuts));
    if offset > FIELD_BYTES_MAX - 2 {
        assert_eq!(result, Err(FormRejection::FieldsTooLarge));
        return;
    }
    assert_eq!(result, Ok(Some(FormHead { fields, file_name: "a.bin".to_owned(), offset })));
    let rest = &form[offset..];
    assert_eq!(decode_file(&delimiter, &split(rest, cuts), rest.len()).as_deref(), Some(data));
    check_file(&delimiter, rest, cuts);
}
