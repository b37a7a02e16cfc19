//! Why the sender of a form was not authenticated: a field, or the signature.

use tidegate_s3::form::FormRejection;

use crate::auth::AuthRejection;

/// Why the sender of a form was not authenticated.
#[derive(Debug)]
pub(crate) enum FormAuthRejection {
    /// A field is missing or malformed.
    Form(FormRejection),
    /// The signature was rejected, or is missing.
    Auth(AuthRejection),
}

impl From<FormRejection> for FormAuthRejection {
    fn from(rejection: FormRejection) -> Self {
        Self::Form(rejection)
    }
}

impl From<AuthRejection> for FormAuthRejection {
    fn from(rejection: AuthRejection) -> Self {
        Self::Auth(rejection)
    }
}
