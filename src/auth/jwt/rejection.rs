//! Why a token was not believed.

/// Why a token was not believed. Nothing here repeats the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JwtRejection {
    /// There are several where one should be.
    Repeated,
    /// It is no token.
    Malformed(&'static str),
    /// It names an algorithm that no key is good for, or that is not accepted.
    Algorithm,
    /// It names a key that is not known.
    UnknownKey,
    /// No key that it may be signed with made this signature.
    Signature,
    /// A claim that every token must have is missing, or no value of its kind.
    Claim(&'static str),
    /// It comes from another issuer.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// Its time is up.
    Expired,
    /// Its time is yet to come.
    NotYetValid,
    /// A claim that says what it allows is missing, or no list of text; the claim's name.
    PolicyClaim(String),
    /// There are no keys yet to verify it with.
    NoKeys,
}

impl JwtRejection {
    /// Whether somebody may be guessing (L8): tokens of another time, place or key were signed by somebody.
    pub(crate) fn counts_toward_lockout(&self) -> bool {
        match self {
            Self::Repeated | Self::Malformed(_) | Self::Algorithm | Self::Signature => true,
            Self::UnknownKey
            | Self::Claim(_)
            | Self::Issuer
            | Self::Audience
            | Self::Expired
            | Self::NotYetValid
            | Self::PolicyClaim(_)
            | Self::NoKeys => false,
        }
    }
}
