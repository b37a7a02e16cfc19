//! Why a token was rejected.

/// Why a token was rejected. No variant contains the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JwtRejection {
    /// The request has more than one token.
    Repeated,
    /// The token is malformed.
    Malformed(&'static str),
    /// The token's algorithm is not accepted, or not the algorithm of its key.
    Algorithm,
    /// The token names an unknown key.
    UnknownKey,
    /// No candidate key verifies the signature.
    Signature,
    /// A required claim is missing or malformed.
    Claim(&'static str),
    /// The token is from another issuer.
    Issuer,
    /// The token is for another audience.
    Audience,
    /// The token has expired.
    Expired,
    /// The token is not valid yet (`nbf`).
    NotYetValid,
    /// This policy claim is missing or not a list of strings.
    PolicyClaim(String),
    /// The keys have not been loaded yet.
    NoKeys,
}

impl JwtRejection {
    /// Whether the rejection counts as a failed authentication (L8). A token that is expired, for another audience or from another issuer
    /// or key is not a guess, so it does not count.
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
