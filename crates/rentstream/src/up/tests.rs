use std::collections::BTreeSet;

use aide::openapi::OpenApi;
use rentstream_infra::http::docs;
use rentstream_projections::tables::Tables;

use super::*;

/// All routes.
fn all_routes() -> ApiRouter {
    let (writes, reads) = sides();
    routes(writes, reads, CancellationToken::new())
}

/// What they work with, over servers that are never asked.
fn sides() -> (Writes, Reads) {
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    let settings = Settings {
        gateway_url: Some("http://127.0.0.1:1".to_owned()),
        gateway_key: Some(SANDBOX_KEY.to_owned()),
        ..Settings::from(|_| None).unwrap()
    };
    let log = Log::open(nowhere, 1, settings.crash.clone()).unwrap();
    let tables = Tables::open(nowhere, 1).unwrap();
    let driver = connections::driver(&settings, log.clone()).unwrap();
    let ending = Ending::of(&CancellationToken::new(), settings.drain);
    (Writes::new(driver), roles::reads(&settings, log, tables, &ending))
}

#[tokio::test]
async fn every_route_is_described_with_what_it_takes_and_refuses() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    aide::generate::on_error(|error| panic!("{error}"));
    let mut api = OpenApi::default();
    let router = all_routes().finish_api(&mut api);
    let described: BTreeSet<String> = api.operations().map(|(path, ..)| path.to_owned()).collect();

    // The router's own words are the only place that has all its paths.
    let words = format!("{router:?}");
    let fallback = |path: &str| path == "/" || path.contains("axum_fallback");
    let served: BTreeSet<String> =
        words.split('"').filter(|word| word.starts_with('/') && !fallback(word)).map(str::to_owned).collect();
    assert!(served.contains("/v1/rentals/{id}/cancel"), "{words}");
    assert_eq!(served, described, "use `api_route`, so that the route is in /openapi.json");

    for (path, method, operation) in api.operations() {
        let told = operation.summary.is_some() && operation.description.is_some();
        assert!(told, "{method} {path} has no `told`");
        let responses = operation.responses.as_ref().unwrap();
        assert!(!responses.responses.is_empty(), "{method} {path} answers nothing");
    }
    for name in api.components.unwrap().schemas.keys() {
        assert!(!name.ends_with(char::is_numeric), "two schemas want the name of {name}: rename one");
    }
}

/// What `/openapi.json` of a role says.
async fn described(routes: ApiRouter, beside: Option<OpenApi>) -> serde_json::Value {
    use tower::ServiceExt;
    let request = axum::http::Request::get("/openapi.json").body(axum::body::Body::empty()).unwrap();
    let answer = docs::publish(routes, beside).oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn each_api_describes_the_whole() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (writes, reads) = sides();
    let health = || health::routes(vec![], CancellationToken::new());
    let whole = described(all_routes(), None).await;
    let beside = docs::describe(api::routes());
    let by_writes = described(rentstream_command_api::router(writes).merge(health()), Some(beside)).await;
    assert_eq!(by_writes, whole);
    let beside = docs::describe(rentstream_command_api::routes());
    assert_eq!(described(api::router(reads).merge(health()), Some(beside)).await, whole);
}
