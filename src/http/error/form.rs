//! Error replies for uploads by POST form, with S3's codes.

use actix_web::http::StatusCode;
use tidegate_s3::form::FormRejection;

use crate::http::error::{bad_request, forbidden, not_implemented};
use crate::http::error_reply::ErrorReply;

pub(super) fn error_reply(rejection: &FormRejection) -> ErrorReply {
    let metadata = |what: String| {
        let message = format!("your POST request's fields become {what}");
        bad_request("MetadataTooLarge", "form_fields_too_large", message)
    };
    let size = |code, message: &'static str| bad_request(code, "form_file_size", message);
    let argument = |message: String| bad_request("InvalidArgument", "form_field", message);
    let reply = match rejection {
        FormRejection::Malformed(what) => bad_request(
            "MalformedPOSTRequest",
            "form_malformed",
            format!("the body of your POST request is not well-formed multipart/form-data: {what}"),
        ),
        FormRejection::FieldsTooLarge => bad_request(
            "MaxPostPreDataLengthExceeded",
            "form_fields_too_large",
            "your POST request fields preceding the upload file were too large: the limit is 20480 bytes",
        ),
        FormRejection::HeadersTooLarge { bytes, limit } => metadata(format!(
            "headers of {bytes} bytes in all, the limit is {limit} (server.limits.max_header_size)"
        )),
        FormRejection::TooManyHeaders { count, limit } => {
            metadata(format!("{count} headers, the limit is {limit} (server.limits.max_headers)"))
        }
        FormRejection::Timeout => ErrorReply::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            "form_timeout",
            "the fields before the file did not arrive in time",
        ),
        FormRejection::MissingLength => ErrorReply::new(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "length_required",
            "a form needs a content-length",
        ),
        FormRejection::NoFile => argument("POST requires exactly one file upload per request".to_owned()),
        FormRejection::MissingField(name) => argument(format!(
            "Bucket POST must contain a field named '{name}'. If it is specified, please check the order of the fields: send all \
             of them before the file"
        ))
        .with_detail("ArgumentName", *name),
        FormRejection::InvalidField { name, what } => {
            argument(format!("the field '{name}' {what}")).with_detail("ArgumentName", name)
        }
        FormRejection::InvalidTagging(what) => bad_request(
            "MalformedXML",
            "form_tagging",
            format!("the field 'tagging' is not a valid Tagging document: {what}"),
        ),
        FormRejection::UnsupportedField(name) => not_implemented(
            "form_field_not_implemented",
            format!("a form's field '{name}' is not implemented; upload with PUT and a header"),
        ),
        FormRejection::InvalidPolicy(what) => {
            bad_request("InvalidPolicyDocument", "form_policy", format!("Invalid Policy: {what}"))
        }
        FormRejection::PolicyDenied(what) => {
            forbidden("AccessDenied", "form_denied", format!("Invalid according to Policy: {what}"))
        }
        FormRejection::TooSmall { bytes, least } => {
            size("EntityTooSmall", "your proposed upload is smaller than the minimum allowed size")
                .with_detail("ProposedSize", bytes.to_string())
                .with_detail("MinSizeAllowed", least.to_string())
        }
        FormRejection::TooLarge { bytes, most } => {
            size("EntityTooLarge", "your proposed upload exceeds the maximum allowed size")
                .with_size(Some(*bytes), *most)
        }
    };
    // The rest of the form is not read.
    reply.with_close()
}
