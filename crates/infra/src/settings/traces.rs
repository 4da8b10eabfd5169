//! The settings of traces, by the names that OpenTelemetry gives them. Without a receiver nothing is traced.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::list::{OTLP_ENDPOINT, OTLP_HEADERS, SERVICE_NAME, TRACES_SAMPLER_ARG};
use super::{Get, SettingError, parse, url};

/// Where the receiver of traces takes them.
const PATH: [&str; 2] = ["v1", "traces"];

/// Who receives traces, and what it's told. It's never printed: address and headers may hold secrets.
#[derive(Clone)]
pub struct Traces {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, and the path there.
    pub url: Url,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: what each request says besides, as a key.
    pub headers: HeaderMap,
    /// `OTEL_SERVICE_NAME`: who we are to it.
    pub service: String,
    /// `OTEL_TRACES_SAMPLER_ARG` (1): so many of the requests that come without a trace are recorded, from 0 to 1.
    pub ratio: f64,
}

impl Traces {
    /// Reads them.
    pub(super) fn from(get: Get<'_>) -> Result<Option<Self>, SettingError> {
        let ratio: f64 = parse(get, &TRACES_SAMPLER_ARG)?;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(SettingError::value(&TRACES_SAMPLER_ARG, ratio.to_string()));
        }
        let headers = headers(&get(&OTLP_HEADERS).unwrap_or_default())
            .ok_or_else(|| SettingError::new(&OTLP_HEADERS, "not such a list"))?;
        let service = get(&SERVICE_NAME).unwrap_or_else(|| SERVICE_NAME.default.to_owned());
        let Some(base) = url(get, &OTLP_ENDPOINT, &["http://", "https://"])? else { return Ok(None) };
        let wrong = || SettingError::new(&OTLP_ENDPOINT, "not such an address");
        let mut url: Url = base.parse().map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(PATH);
        Ok(Some(Self { url, headers, service, ratio }))
    }
}

/// `name=value,name=value`, the values percent-encoded where they need be.
fn headers(text: &str) -> Option<HeaderMap> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
    };
    pairs.map(header).collect()
}
