use super::list::ALL;
use super::*;

fn with(name: &'static str, value: &'static str) -> Result<Settings, SettingError> {
    Settings::from(move |asked| (asked == name).then(|| value.to_owned()))
}

#[test]
fn an_empty_environment_is_enough() {
    let settings = Settings::from(|_| None).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.hold, TimeDelta::seconds(900));
}

#[test]
fn a_wrong_setting_is_named_with_what_it_should_be() {
    let said = |name, value| with(name, value).unwrap_err().to_string();
    assert_eq!(
        said("RENTSTREAM_HOLD", "soon"),
        "RENTSTREAM_HOLD is \"soon\"; it should be a number of seconds from 1 to 86400"
    );
    assert_eq!(
        said("RENTSTREAM_HOLD", "0"),
        "RENTSTREAM_HOLD is 0; it should be a number of seconds from 1 to 86400"
    );
    assert_eq!(
        said("RENTSTREAM_JWT_SECRET", "short"),
        "RENTSTREAM_JWT_SECRET is too short; it should be 32 characters or more"
    );
    assert_eq!(
        said("RENTSTREAM_RATE_LIMIT", "none"),
        "RENTSTREAM_RATE_LIMIT is \"none\"; it should be requests per second and caller, from 1 to 1000000, or off"
    );
    for replicas in ["0", "2", "7"] {
        assert_eq!(
            said("RENTSTREAM_STREAM_REPLICAS", replicas),
            format!("RENTSTREAM_STREAM_REPLICAS is {replicas}; it should be 1, 3 or 5")
        );
    }
    assert!(said("RENTSTREAM_CAPACITY", "0").starts_with("RENTSTREAM_CAPACITY is \"0\""));
    assert!(said("RENTSTREAM_METRICS_LISTEN", "9090").starts_with("RENTSTREAM_METRICS_LISTEN is"));
    assert!(said("RENTSTREAM_LISTEN", "8080").starts_with("RENTSTREAM_LISTEN is \"8080\""));
}

#[test]
fn a_channel_that_is_half_set_or_wrong_is_named() {
    let said = |settings: &[(&'static str, &'static str)]| {
        let get = |asked: &str| settings.iter().find(|(name, _)| *name == asked);
        Settings::from(|asked| get(asked).map(|(_, value)| (*value).to_owned())).unwrap_err().to_string()
    };
    let url = ("SMTP_URL", "smtp://shop:hunter2@mail.example");
    assert!(said(&[url]).starts_with("SMTP_FROM is not set; it should be who e-mails are from"));
    assert!(said(&[url, ("SMTP_FROM", "the shop")]).starts_with("SMTP_FROM is not a sender"));
    assert!(said(&[("SMTP_URL", "mail.example")]).starts_with("SMTP_URL is not such an address"));
    let url = ("WEBHOOK_URL", "https://shop.example/hunter2");
    assert!(said(&[url]).starts_with("WEBHOOK_SECRET is not set"));
    assert!(said(&[url, ("WEBHOOK_SECRET", "hunter2")]).starts_with("WEBHOOK_SECRET is not a secret"));
    let url = ("KAKAO_URL", "https://kapi.kakao.com");
    assert!(said(&[url]).starts_with("KAKAO_TOKEN is not set"));
    assert!(said(&[("KAKAO_URL", "kapi"), ("KAKAO_TOKEN", "t")]).starts_with("KAKAO_URL is not such"));
}

#[test]
fn a_receiver_of_traces_that_is_wrong_is_named_and_its_secrets_are_not() {
    let said = |name, value| with(name, value).unwrap_err().to_string();
    assert_eq!(
        said("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        "OTEL_TRACES_SAMPLER_ARG is 1.5; it should be a number from 0 to 1"
    );
    assert!(said("OTEL_TRACES_SAMPLER_ARG", "NaN").starts_with("OTEL_TRACES_SAMPLER_ARG is NaN"));
    for wrong in ["collector:4317", "grpc://hunter2@collector", "http://", "http://hunter2:4318x"] {
        let said = said("OTEL_EXPORTER_OTLP_ENDPOINT", wrong);
        assert!(said.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is not such an address"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for wrong in ["hunter2", "key=hunter2%0a", "a b=hunter2", "=hunter2"] {
        let said = said("OTEL_EXPORTER_OTLP_HEADERS", wrong);
        assert!(said.starts_with("OTEL_EXPORTER_OTLP_HEADERS is not such a list"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let traces =
        with("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example/otlp/").unwrap().traces.unwrap();
    assert_eq!(traces.url.as_str(), "https://collector.example/otlp/v1/traces");
    assert!(with("OTEL_EXPORTER_OTLP_HEADERS", "a=b, c=d%20e,").unwrap().traces.is_none());
}

#[test]
fn nats_may_be_at_several_addresses() {
    let several = "nats://shop:hunter2@one:4222, tls://shop:hunter2@other:4222";
    assert_eq!(with("NATS_URL", several).unwrap().nats_url.as_deref(), Some(several));
    for wrong in ["nats://one:4222,", "nats://shop:hunter2@one:4222,other:4222", "hunter2:4222,nats://one"] {
        assert_eq!(
            with("NATS_URL", wrong).unwrap_err().to_string(),
            "NATS_URL is not such an address; it should be a NATS address, as in nats://host:4222, or several of a \
             cluster with commas between"
        );
    }
}

#[test]
fn tls_to_nats_that_is_half_set_or_wrong_is_named() {
    let said = |name, value| with(name, value).unwrap_err().to_string();
    assert_eq!(
        said("NATS_CA", "/etc/ssl/ca.pem"),
        "NATS_CA is without a certificate; it should be the certificates of who signs the NATS server's, as PEM"
    );
    let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(said("NATS_CA", broken).starts_with("NATS_CA is no certificate of an authority; it should be"));
    for name in ["NATS_CERT", "NATS_KEY"] {
        assert_eq!(
            said(name, "anything"),
            format!("{name} is set without NATS_CA; it should be set beside it or left out")
        );
    }
}

/// What is in force with these in the environment, as `rentstream config` prints it.
fn shown(environment: &[(&str, &str)]) -> String {
    given(environment).unwrap().to_string()
}

fn given(environment: &[(&str, &str)]) -> Result<Given, SettingError> {
    let find = |asked: &str| environment.iter().find(|(name, _)| *name == asked);
    Given::read(|asked| find(asked).map(|(_, value)| (*value).to_owned()))
}

fn line(shown: &str, name: &str) -> String {
    let line = shown.lines().find(|line| line.starts_with(&format!("{name}="))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn no_secret_is_shown() {
    let secret = "hunter2hunter2hunter2hunter2hunter2";
    let held = format!("whsec_{secret}");
    let all: Vec<(String, String)> = ALL
        .iter()
        .map(|setting| {
            let value = match setting.name {
                "NATS_URL" => format!("nats://{secret}@host:4222,nats://shop:{secret}@other:4222"),
                "WEBHOOK_URL" => format!("https://shop.example/{secret}?{secret}"),
                "SMTP_URL" => format!("smtps://shop:{secret}@mail.example"),
                name if name.ends_with("DATABASE_URL") => {
                    format!("postgres://shop:{secret}@host/log?sslmode=verify-full&password={secret}")
                }
                name if name.ends_with("_URL") || name.ends_with("_ENDPOINT") => {
                    format!("https://shop:{secret}@host/path")
                }
                name if name.contains("SECRET")
                    || name.contains("KEY")
                    || name.contains("TOKEN")
                    || name.contains("HEADERS") =>
                {
                    held.clone()
                }
                _ => setting.default.to_owned(),
            };
            (setting.name.to_owned(), value)
        })
        .collect();
    let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
    let shown = shown(&all);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(
        line(&shown, "DATABASE_URL"),
        "DATABASE_URL=postgres://shop:***@host/log?sslmode=verify-full&password=*** environment"
    );
    assert!(
        line(&shown, "NATS_URL").starts_with("NATS_URL=nats://***@host:4222,nats://shop:***@other:4222 ")
    );
    assert!(line(&shown, "WEBHOOK_URL").starts_with("WEBHOOK_URL=https://shop.example/*** "));
    for wrong in [format!("hunter2 {secret}"), format!("postgres:{secret}"), format!("mysql://{secret}:x:y")]
    {
        let shown = self::shown(&[("DATABASE_URL", &wrong)]);
        assert_eq!(line(&shown, "DATABASE_URL"), "DATABASE_URL=*** environment");
    }
    let settings = with("DATABASE_URL", "postgres://shop:hunter2@db/log").unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!with("DATABASE_URL", "mysql://hunter2").unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_setting_is_read_from_the_file_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hold");
    let file = path.to_str().unwrap();
    let named = [("RENTSTREAM_HOLD_FILE", file), ("RENTSTREAM_MEMORY", "8"), ("RENTSTREAM_CAPACITY", "")];
    let hold = || given(&named).and_then(|given| Settings::of(&given)).map(|settings| settings.hold);

    std::fs::write(&path, "60\r\n").unwrap();
    assert_eq!(hold(), Ok(TimeDelta::seconds(60)));
    let said = shown(&named);
    assert_eq!(line(&said, "RENTSTREAM_HOLD"), format!("RENTSTREAM_HOLD=60 file {file}"));
    assert_eq!(line(&said, "RENTSTREAM_MEMORY"), "RENTSTREAM_MEMORY=8 environment");
    assert_eq!(line(&said, "RENTSTREAM_CAPACITY"), "RENTSTREAM_CAPACITY=256 default");
    assert_eq!(line(&said, "DATABASE_URL"), "DATABASE_URL= not set");

    std::fs::write(&path, "hunter2").unwrap();
    assert_eq!(
        hold().unwrap_err().to_string(),
        format!(
            "RENTSTREAM_HOLD is not usable as it stands in the file {file}; it should be a number of seconds from 1 to 86400"
        )
    );
    std::fs::write(&path, "\n").unwrap();
    assert_eq!(
        hold().unwrap_err().to_string(),
        format!(
            "RENTSTREAM_HOLD can't be read from {file}, the file that RENTSTREAM_HOLD_FILE names: it is empty"
        )
    );
    std::fs::remove_file(&path).unwrap();
    let said = hold().unwrap_err().to_string();
    assert!(said.contains(file) && said.ends_with("No such file or directory (os error 2)"), "{said}");
    let both = [("RENTSTREAM_HOLD_FILE", file), ("RENTSTREAM_HOLD", "60")];
    assert_eq!(
        given(&both).map(drop).unwrap_err().to_string(),
        "RENTSTREAM_HOLD and RENTSTREAM_HOLD_FILE are both set; set one of them"
    );
}

#[test]
fn the_example_names_every_setting_with_its_default_and_no_other() {
    let example = include_str!("../../../../.env.example");
    let lines = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    let named: Vec<(&str, &str)> = lines.filter(|(name, _)| !name.contains(' ')).collect();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ALL.iter().map(|setting| setting.name).collect::<Vec<_>>());
    for (setting, (name, value)) in ALL.iter().zip(named) {
        assert!(setting.default.is_empty() || setting.default == value, "{name} is {value} in .env.example");
    }
}

#[test]
fn every_setting_of_the_list_is_read() {
    let given = [
        ("RENTSTREAM_JWKS_URL", "https://id.example.com/jwks.json"),
        ("RENTSTREAM_OIDC_ISSUER", "https://id.example.com/"),
        ("RENTSTREAM_OIDC_AUDIENCE", "shop"),
        ("SMTP_URL", "smtp://mail.example"),
        ("SMTP_FROM", "library@shop.example"),
        ("WEBHOOK_URL", "https://shop.example"),
        ("WEBHOOK_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        ("KAKAO_URL", "https://kapi.kakao.com"),
        ("KAKAO_TOKEN", "token"),
    ];
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    Settings::from(|name| {
        asked.borrow_mut().insert(name.to_owned());
        given.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap();
    let all = ALL.iter().map(|setting| setting.name.to_owned()).collect();
    assert_eq!(*asked.borrow(), all);
}
