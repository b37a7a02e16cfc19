//! Forms that are split at every byte, and malformed forms.

use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=XyZ";

fn delimiter() -> Delimiter {
    Delimiter::from_content_type(TYPE).unwrap()
}

fn form(fields: &[(&str, &str)], data: &[u8], end: &str) -> Vec<u8> {
    let mut form = String::new();
    for (name, value) in fields {
        form += &format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    form += "--XyZ\r\ncontent-disposition: form-data; name=\"file\"; filename=\"C:\\a b\\c;d.txt\"\r\nContent-Type: x\r\n\r\n";
    [form.as_bytes(), data, end.as_bytes()].concat()
}

fn read(form: &[u8], slice: usize) -> Result<(FilePart, usize), FormRejection> {
    let mut reader = FieldReader::new(delimiter());
    for (at, piece) in form.chunks(slice).enumerate() {
        if let Some(part) = reader.push(piece)? {
            return Ok((part, (at * slice + piece.len()).min(form.len())));
        }
    }
    Err(FormRejection::Malformed("ended"))
}

/// A1
#[test]
fn a_boundary_is_read_from_the_content_type() {
    assert_eq!(
        Delimiter::from_content_type("Multipart/Form-Data; charset=x; boundary=\"a=b\"").unwrap().0,
        b"\r\n--a=b"
    );
    for bad in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/mixed; boundary=a",
    ] {
        assert_eq!(Delimiter::from_content_type(bad), None, "{bad}");
    }
}

/// A1: fields, file name and the offset of the data do not depend on the slices of the input
#[test]
fn a_form_is_parsed_in_slices_of_every_size() {
    let sent = form(&[("key", "a\r\nb"), ("Policy", ""), ("x", "ü--XyZ")], b"data", "\r\n--XyZ--\r\n");
    for slice in 1..=sent.len() {
        let (part, read) = read(&sent, slice).unwrap();
        let fields: Vec<_> =
            part.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("key", "a\r\nb"), ("Policy", ""), ("x", "ü--XyZ")]);
        assert_eq!(part.file_name, "C:\\a b\\c;d.txt");
        let offset = usize::try_from(part.offset).unwrap();
        assert_eq!(part.first_bytes, sent[offset..read]);
        assert!(sent[offset..].starts_with(b"data"));
    }
}

/// A1: malformed forms are rejected, and the fields are bounded
#[test]
fn malformed_forms_are_rejected() {
    use FormRejection::{FieldsTooLarge, Malformed, NoFile};
    let rejection = |form: &[u8]| read(form, 1000).map(|_| ()).unwrap_err();
    assert_eq!(rejection(b"--XyZ--\r\n"), NoFile);
    assert!(matches!(rejection(b"x--XyZ\r\n"), Malformed(_)));
    assert!(matches!(
        rejection(b"--XyZ \r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n"),
        Malformed(_)
    ));
    for head in [
        "Content-Type: x",
        "Content-Disposition: form-data",
        "Content-Disposition: attachment; name=\"key\"",
        "Content-Disposition: form-data; name=\"key\"; name=\"acl\"",
        "Content-Disposition: form-data; name=\"key",
        "Content-Disposition: form-data; name=\"key\"\r\nContent-Disposition: form-data; name=\"acl\"",
        "",
    ] {
        let form = format!("--XyZ\r\n{head}\r\n\r\nv\r\n--XyZ--\r\n");
        assert!(matches!(rejection(form.as_bytes()), Malformed(_)), "{head}");
    }
    let long = "v".repeat(21 << 10);
    assert_eq!(rejection(&form(&[("x-amz-meta-a", &long)], b"", "\r\n--XyZ--\r\n")), FieldsTooLarge);
    assert_eq!(
        rejection(long.replace('v', "\r\n").as_bytes()),
        Malformed("it does not start with its boundary")
    );
}

fn decode(data: &[u8], end: &str, slice: usize) -> Result<Vec<u8>, String> {
    let bytes = [data, end.as_bytes()].concat();
    let mut decoder =
        FileDecoder::new(delimiter(), bytes.len() as u64).map_err(|error| format!("{error:?}"))?;
    let mut out = Vec::new();
    for piece in bytes.chunks(slice) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            out.extend(decoder.decode(&mut piece)?.into_iter().flatten());
        }
    }
    decoder.finish()?;
    Ok(out)
}

/// A1: a streamed file is everything before the closing line, in slices of every size
#[test]
fn a_streamed_file_ends_with_its_form() {
    let data = b"0123\r\n--Xy\r\n--XY--\r\n456\r\n";
    for slice in 1..=50 {
        assert_eq!(decode(data, "\r\n--XyZ--\r\n", slice).unwrap(), data);
        assert_eq!(decode(b"", "\r\n--XyZ--\r\n", slice).unwrap(), b"");
        for end in [
            "\r\n--XyZ--",
            "\r\n--XyZ--\n\n",
            "\r\n--XyZ\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--XyZ--\r\n",
            "\r\n--XyZ--\r\n--XyZ--\r\n",
            "",
        ] {
            assert!(decode(data, end, slice).is_err(), "{end:?} {slice}");
        }
    }
}

/// A1: fields after a buffered file are ignored
#[test]
fn a_small_file_ends_at_its_boundary() {
    let extract = |text: &'static str| extract_file(Bytes::from_static(text.as_bytes()), &delimiter());
    let submit = "a\r\n--XyZ\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nx\r\n--XyZ--\r\n";
    for form in ["a\r\n--XyZ--\r\n", "a\r\n--XyZ--", submit] {
        assert_eq!(extract(form).unwrap(), "a");
    }
    for form in ["a", "a\r\n--XyZ", "a\r\n--XyZ\r\n"] {
        assert!(extract(form).is_err(), "{form:?}");
    }
}

proptest! {
    /// A1: the result for any input does not depend on the slices
    #[test]
    fn slices_do_not_change_the_result(
        text in "(--XyZ\r\nContent-Disposition: form-data; name=)?[\r\n\\-XyZ:;=\"\\\\fileam ]{0,200}",
        slice in 1_usize..40,
    ) {
        let sent = form(&[("key", &text)], text.as_bytes(), "\r\n--XyZ--\r\n");
        for sent in [text.as_bytes(), &sent] {
            let parsed = |slice| read(sent, slice).map(|(part, _)| (part.fields, part.file_name, part.offset));
            prop_assert_eq!(parsed(sent.len().max(1)), parsed(slice));
        }
        let Ok((part, _)) = read(&sent, slice) else { return Ok(()) };
        let rest = Bytes::copy_from_slice(&sent[usize::try_from(part.offset).unwrap()..]);
        let whole = extract_file(rest.clone(), &delimiter());
        if let Ok(streamed) = decode(&rest, "", slice) {
            prop_assert_eq!(whole.unwrap(), streamed);
        }
    }
}
