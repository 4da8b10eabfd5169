use std::collections::BTreeSet;

use aide::openapi::OpenApi;

use super::*;

/// All routes.
fn all_routes() -> ApiRouter {
    let (writes, reads) = sides();
    routes(writes, reads, CancellationToken::new())
}

/// What they work with, over servers that are never asked.
fn sides() -> (Writes, Reads) {
    let nowhere = Some("postgres://nobody@127.0.0.1:1/nothing".to_owned());
    let settings = Settings {
        database_url: nowhere.clone(),
        views_database_url: nowhere,
        gateway_url: Some("http://127.0.0.1:1".to_owned()),
        gateway_key: Some(SANDBOX_KEY.to_owned()),
        ..Settings::from(|_| None).unwrap()
    };
    let (log, tables) = (roles::log(&settings).unwrap(), roles::tables(&settings).unwrap());
    let driver = roles::driver(&settings, log.clone()).unwrap();
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
