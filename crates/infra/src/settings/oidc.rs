//! The settings of an identity provider. All of them or none: keys without an issuer and an audience would let
//! in tokens that were meant for somebody else.

use std::fmt;

use reqwest::Url;

use super::list::{JWKS_URL, OIDC_AUDIENCE, OIDC_ISSUER, OIDC_ROLE_CLAIM};
use super::{Get, SettingError, url};
use crate::http::auth::ISSUER;

/// An identity provider whose tokens are accepted beside the shop's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Oidc {
    /// `RENTSTREAM_JWKS_URL`: where its public keys are.
    pub jwks_url: Url,
    /// `RENTSTREAM_OIDC_ISSUER`: what its tokens say in `iss`.
    pub issuer: String,
    /// `RENTSTREAM_OIDC_AUDIENCE`: what tokens for this shop say in `aud`.
    pub audience: String,
    /// `RENTSTREAM_OIDC_ROLE_CLAIM`: which claim names the bearer's role; `role` or `roles` where it's not set.
    pub role_claim: Option<String>,
}

impl Oidc {
    /// Reads them.
    pub(super) fn from(get: Get<'_>) -> Result<Option<Self>, SettingError> {
        let Some(keys) = url(get, &JWKS_URL, &["https://", "http://"])? else {
            let beside = [OIDC_ISSUER, OIDC_AUDIENCE, OIDC_ROLE_CLAIM];
            return match beside.iter().find(|setting| get(setting).is_some()) {
                Some(setting) => Err(SettingError::Wrong {
                    name: setting.name,
                    problem: "set without RENTSTREAM_JWKS_URL".to_owned(),
                    should: "set beside it or left out",
                }),
                None => Ok(None),
            };
        };
        let jwks_url = keys.parse().map_err(|_| SettingError::new(&JWKS_URL, "not such an address"))?;
        let needed = |setting| get(setting).ok_or_else(|| SettingError::new(setting, "not set"));
        let issuer = needed(&OIDC_ISSUER)?;
        if issuer == ISSUER {
            return Err(SettingError::Wrong {
                name: OIDC_ISSUER.name,
                problem: "the issuer of the shop's own tokens".to_owned(),
                should: "the provider's",
            });
        }
        let audience = needed(&OIDC_AUDIENCE)?;
        Ok(Some(Self { jwks_url, issuer, audience, role_claim: get(&OIDC_ROLE_CLAIM) }))
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        let Self { issuer, audience, role_claim, .. } = self;
        f.debug_struct("Oidc")
            .field("issuer", issuer)
            .field("audience", audience)
            .field("role_claim", role_claim)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    const GOOD: [(&str, &str); 3] = [
        ("RENTSTREAM_JWKS_URL", "https://id.example.com/jwks.json"),
        ("RENTSTREAM_OIDC_ISSUER", "https://id.example.com/"),
        ("RENTSTREAM_OIDC_AUDIENCE", "shop"),
    ];

    fn said(change: (&'static str, Option<&'static str>)) -> String {
        let get = |name: &str| match change {
            (changed, value) if changed == name => value.map(str::to_owned),
            _ => GOOD.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        };
        Settings::from(get).map_or_else(|error| error.to_string(), |settings| format!("{:?}", settings.oidc))
    }

    #[test]
    fn a_provider_is_set_whole_or_not_at_all() {
        assert!(said(("RENTSTREAM_OIDC_ROLE_CLAIM", Some("groups"))).contains("Some(\"groups\")"));
        assert_eq!(
            said(("RENTSTREAM_OIDC_ISSUER", None)),
            "RENTSTREAM_OIDC_ISSUER is not set; it should be what the provider's tokens say in `iss`, \
             as RENTSTREAM_JWKS_URL is set"
        );
        assert_eq!(
            said(("RENTSTREAM_OIDC_AUDIENCE", None)),
            "RENTSTREAM_OIDC_AUDIENCE is not set; it should be what tokens for this shop say in `aud`, \
             as RENTSTREAM_JWKS_URL is set"
        );
        assert_eq!(
            said(("RENTSTREAM_JWKS_URL", None)),
            "RENTSTREAM_OIDC_ISSUER is set without RENTSTREAM_JWKS_URL; it should be set beside it or left out"
        );
        assert_eq!(
            said(("RENTSTREAM_OIDC_ISSUER", Some("rentstream"))),
            "RENTSTREAM_OIDC_ISSUER is the issuer of the shop's own tokens; it should be the provider's"
        );
        for none in ["id.example.com", "https://", "ldap://id.example.com"] {
            assert!(
                said(("RENTSTREAM_JWKS_URL", Some(none))).starts_with("RENTSTREAM_JWKS_URL is not such an")
            );
        }
    }
}
