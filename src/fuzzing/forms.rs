//! Target `forms`: uploads by POST form, from the bytes of the form to the policy that allows it.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::fuzzing::{Input, split};
use crate::s3::form::FormRejection;
use crate::s3::form::fields::FormFields;
use crate::s3::form::multipart::{Delimiter, FieldReader, FileDecoder, extract_file};
use crate::s3::form::policy::PostPolicy;
use crate::s3::form::success_action::SuccessAction;

/// The bucket that the policies of the corpus name.
const BUCKET: &str = "b";
/// Headers that would make an upload another operation, or frame its body in another way.
const NEVER_A_HEADER: [&str; 6] = [
    "x-amz-copy-source",
    "content-length",
    "transfer-encoding",
    "host",
    "authorization",
    "x-amz-content-sha256",
];
/// What the fields before a file may have, with the line end that the reader puts before the form.
const FIELD_BYTES_MAX: usize = (20 << 10) + 2;

/// POST forms: the result does not depend on where the network cuts, a form that is built is read back, a file holds
/// no boundary, no field becomes a header that changes the operation, and a policy that allows a form allows no
/// further field and nothing once it has expired.
pub fn forms(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    if mode & 1 == 0 {
        any_form(cuts, input.rest());
    } else {
        round_trip(cuts, input);
    }
}

/// A form whose first line is its `Content-Type`.
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
    let Ok(Some(Head { fields, file_name, before })) = whole else { return };
    assert!(before <= form.len() && before <= FIELD_BYTES_MAX);
    check_file(&delimiter, &form[before..], cuts);
    if let Ok(fields) = FormFields::from_parts(fields, &file_name) {
        check_fields(&fields);
    }
}

/// What precedes a form's file.
#[derive(Debug, PartialEq)]
struct Head {
    fields: Vec<(String, String)>,
    file_name: String,
    before: usize,
}

fn read(delimiter: &Delimiter, form: &[&[u8]]) -> Result<Option<Head>, FormRejection> {
    let mut reader = FieldReader::new(delimiter.clone());
    for piece in form {
        if let Some(part) = reader.push(piece)? {
            let before = usize::try_from(part.offset).unwrap();
            return Ok(Some(Head { fields: part.fields, file_name: part.file_name, before }));
        }
    }
    Ok(None)
}

/// The file of a form, streamed and read whole.
fn check_file(delimiter: &Delimiter, rest: &[u8], cuts: u8) {
    let whole = decode_file(delimiter, &[rest], rest.len());
    for cuts in [1, cuts] {
        let cut = decode_file(delimiter, &split(rest, cuts), rest.len());
        assert_eq!(cut.is_some(), whole.is_some(), "cut by {cuts}");
        assert!(cut.is_none() || cut == whole, "cut by {cuts}");
    }
    let read = extract_file(Bytes::copy_from_slice(rest), delimiter).ok();
    if let Some(data) = &read {
        assert!(decode_file(delimiter, &[data], data.len()).is_none(), "a file holds its form's end");
    }
    if let Some(data) = whole {
        assert_eq!(
            read.as_deref(),
            Some(data.as_slice()),
            "a file that is streamed differs from one that is read"
        );
    }
}

fn decode_file(delimiter: &Delimiter, rest: &[&[u8]], bytes: usize) -> Option<Vec<u8>> {
    let mut scan = FileDecoder::new(delimiter.clone(), bytes as u64).ok()?;
    let announced = scan.remaining();
    let mut data = Vec::new();
    for piece in rest {
        let mut input = Bytes::copy_from_slice(piece);
        let taken = scan.decode(&mut input).ok()?;
        assert!(input.is_empty());
        data.extend_from_slice(&taken.unwrap_or_default());
    }
    scan.finish().ok()?;
    assert_eq!(data.len() as u64, announced, "the length of a file is known ahead");
    Some(data)
}

fn check_fields(fields: &FormFields) {
    if let Ok(headers) = fields.headers() {
        for (name, _) in &headers {
            assert!(!NEVER_A_HEADER.contains(&name.as_str()), "a field became {name}");
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
    assert!(policy.check(fields, BUCKET, far).is_err(), "a policy does not expire");
    let is_within = [0, 1, u64::MAX / 2, u64::MAX].map(|bytes| policy.check_length(bytes).is_ok());
    let changes = is_within.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= 2, "lengths that are allowed are no range: {is_within:?}");
    if policy.check(fields, BUCKET, SystemTime::UNIX_EPOCH).is_ok() {
        assert_eq!(fields.get("bucket").unwrap_or(BUCKET), BUCKET);
        let names: Vec<&str> = fields.names().collect();
        let unused =
            (0..).map(|n| format!("field-{n}")).find(|name| !names.contains(&name.as_str())).unwrap();
        let more =
            fields.names().map(|name| (name.to_owned(), fields.get(name).unwrap_or_default().to_owned()));
        let more =
            FormFields::from_parts(more.chain([(unused.clone(), String::new())]).collect(), "").unwrap();
        let told = policy.check(&more, BUCKET, SystemTime::UNIX_EPOCH);
        assert!(told.is_err(), "the policy says nothing of {unused}");
    }
}

/// A form of any fields and file, written as a browser does.
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
    let before = form.len();
    form.extend_from_slice(data);
    form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());

    let delimiter =
        Delimiter::from_content_type(&format!("multipart/form-data; boundary={boundary}")).unwrap();
    let told = read(&delimiter, &split(&form, cuts));
    if before > FIELD_BYTES_MAX - 2 {
        assert_eq!(told, Err(FormRejection::FieldsTooLarge));
        return;
    }
    assert_eq!(told, Ok(Some(Head { fields, file_name: "a.bin".to_owned(), before })));
    let rest = &form[before..];
    assert_eq!(decode_file(&delimiter, &split(rest, cuts), rest.len()).as_deref(), Some(data));
    check_file(&delimiter, rest, cuts);
}
