//! Rules of cross-origin requests: documents, and tables of requests with what each is answered.

use super::super::head::Endpoint;
use super::super::head::tests::parts;
use super::*;

fn document(rules: &str) -> String {
    format!("<CORSConfiguration>{rules}</CORSConfiguration>")
}

fn check(rules: &str, expected: std::result::Result<usize, ErrorCode>) {
    let got = CorsRules::parse(document(rules).as_bytes());
    let got = got.map(|rules| rules.0.len()).map_err(|error| error.code());
    assert_eq!(got, expected, "{rules:.150}");
}

const RULE: &str =
    "<CORSRule><AllowedOrigin>http://*.test</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>";

#[test]
fn documents_are_what_s3_allows() {
    check(RULE, Ok(1));
    check(&RULE.repeat(100), Ok(100));
    check(&RULE.repeat(101), Err(ErrorCode::InvalidRequest));
    let with = |element: &str, text: &str| {
        RULE.replace(
            "</CORSRule>",
            &format!("<{element}>{text}</{element}></CORSRule>"),
        )
    };
    for (element, text, expected) in [
        ("ID", "a rule", Ok(1)),
        ("ID", &*"i".repeat(256), Err(ErrorCode::MalformedXML)),
        ("AllowedMethod", "DELETE", Ok(1)),
        ("AllowedMethod", "OPTIONS", Err(ErrorCode::InvalidRequest)),
        ("AllowedMethod", "get", Err(ErrorCode::InvalidRequest)),
        ("AllowedOrigin", "*", Ok(1)),
        ("AllowedOrigin", "http://*.*", Err(ErrorCode::InvalidRequest)),
        ("AllowedOrigin", "", Ok(1)),
        ("AllowedOrigin", "http://a b", Err(ErrorCode::InvalidRequest)),
        ("AllowedMethod", "", Err(ErrorCode::InvalidRequest)),
        ("AllowedHeader", "", Err(ErrorCode::InvalidRequest)),
        ("ID", "", Ok(1)),
        ("ID", &*"ä".repeat(255), Ok(1)),
        ("AllowedHeader", "X-Amz-*", Ok(1)),
        ("AllowedHeader", "*-*", Err(ErrorCode::InvalidRequest)),
        ("AllowedHeader", "a&#10;b", Err(ErrorCode::InvalidRequest)),
        ("ExposeHeader", "ETag", Ok(1)),
        ("ExposeHeader", "x-*", Err(ErrorCode::InvalidRequest)),
        ("ExposeHeader", "a&#13;b", Err(ErrorCode::InvalidRequest)),
        ("MaxAgeSeconds", "3000", Ok(1)),
        ("MaxAgeSeconds", "-1", Err(ErrorCode::MalformedXML)),
        ("Other", "x", Err(ErrorCode::MalformedXML)),
    ] {
        check(&with(element, text), expected);
    }
    for malformed in [
        "",
        "<CORSRule/>",
        "<X/>",
        "<CORSRule><AllowedMethod>GET</AllowedMethod></CORSRule>",
    ] {
        check(malformed, Err(ErrorCode::MalformedXML));
    }
}

#[test]
fn what_is_written_is_read_back() {
    let rules = RULE.replace(
        "</CORSRule>",
        "<ID>one</ID><AllowedHeader>X-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
         <MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>",
    );
    let rules = CorsRules::parse(document(&rules).as_bytes()).unwrap();
    assert_eq!(CorsRules::parse(rules.to_xml().as_bytes()), Ok(rules.clone()));
    assert!(rules.to_xml().contains(
        "<CORSRule><AllowedHeader>X-*</AllowedHeader><AllowedMethod>GET</AllowedMethod>\
         <AllowedOrigin>http://*.test</AllowedOrigin><ExposeHeader>ETag</ExposeHeader><ID>one</ID>\
         <MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>"
    ));
}

/// What a preflight is answered: headers as `name: value` in order, or code and details of the error.
fn preflight(bucket: Asked<'_>, target: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let parts = parts("OPTIONS", target, headers);
    let endpoint = Endpoint::default();
    let head = Head::parse(&parts, &endpoint).unwrap();
    match Preflight::parse(&head).and_then(|preflight| preflight.judge(bucket)) {
        Ok(headers) => shown(&headers),
        Err(error) => ["Method", "ResourceType"]
            .into_iter()
            .filter_map(|name| error.detail(name).map(str::to_owned))
            .fold(vec![error.code().as_str().to_owned()], |mut all, detail| {
                all.push(detail);
                all
            }),
    }
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let mut shown: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            let name = name.as_str().replace("access-control-", "");
            let value = value.to_str().unwrap();
            format!("{name}: {}", if name == "vary" { "…" } else { value })
        })
        .collect();
    shown.sort();
    shown
}

/// The rules of the tables below.
const TABLE_RULES: &str = "<CORSRule><AllowedOrigin>http://*.test</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
     <AllowedHeader>X-Amz-*</AllowedHeader><AllowedHeader>Content-Type</AllowedHeader>\
     <ExposeHeader>ETag</ExposeHeader></CORSRule>\
     <CORSRule><AllowedOrigin>http://two</AllowedOrigin><AllowedMethod>DELETE</AllowedMethod>\
     <AllowedMethod>GET</AllowedMethod></CORSRule>\
     <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
     <MaxAgeSeconds>9</MaxAgeSeconds></CORSRule>";
const PUTS: &[&str] = &[
    "allow-credentials: true",
    "allow-methods: PUT",
    "allow-origin: http://a.test",
    "expose-headers: ETag",
    "vary: …",
];
const TWO: &[&str] = &[
    "allow-credentials: true",
    "allow-methods: DELETE, GET",
    "allow-origin: http://two",
    "vary: …",
];
const ALL: &[&str] = &["allow-methods: GET", "allow-origin: *", "max-age: 9", "vary: …"];
const BAD: &[&str] = &["BadRequest"];

fn fields<'a>(origin: &'a str, method: &'a str, headers: &'a str) -> Vec<(&'static str, &'a str)> {
    let all = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", headers),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

#[test]
fn the_first_rule_that_fits_answers_preflights() {
    let rules = CorsRules::parse(document(TABLE_RULES).as_bytes()).unwrap();
    let puts_with = |headers| {
        let mut all = vec![headers];
        all.extend(PUTS);
        all.sort_unstable();
        all
    };
    let many = "x-amz-a,".repeat(limits::HEADERS_MAX + 1);
    for (origin, method, headers, expected) in [
        ("http://a.test", "PUT", "", PUTS),
        (
            "http://a.test",
            "PUT",
            "X-Amz-Date,  x-amz-meta-a,content-TYPE",
            &puts_with("allow-headers: x-amz-date, x-amz-meta-a, content-type"),
        ),
        ("http://.test", "PUT", "", &PUTS_OF_NO_HOST),
        // The first rule has the origin, but not the method.
        ("http://a.test", "GET", "", ALL),
        ("http://two", "GET", "", TWO),
        ("http://two", "DELETE", "", TWO),
        ("https://b", "GET", "", ALL),
        ("null", "GET", "", ALL),
        // No rule allows all of it.
        (
            "http://a.test",
            "PUT",
            "x-amz-date, authorization",
            &["AccessForbidden", "PUT", "OBJECT"],
        ),
        (
            "http://a.test",
            "PUT",
            &many,
            &["AccessForbidden", "PUT", "OBJECT"],
        ),
        ("http://a.test/", "PUT", "", &["AccessForbidden", "PUT", "OBJECT"]),
        ("HTTP://A.TEST", "PUT", "", &["AccessForbidden", "PUT", "OBJECT"]),
        // Start and end of a pattern share no character.
        ("http://.tes", "PUT", "", &["AccessForbidden", "PUT", "OBJECT"]),
        (
            "https://b",
            "GET",
            "x-amz-date",
            &["AccessForbidden", "GET", "OBJECT"],
        ),
        ("https://b", "HEAD", "", &["AccessForbidden", "HEAD", "OBJECT"]),
        // It is not said who asks, or for what.
        ("", "PUT", "", BAD),
        ("http://a.test", "", "", BAD),
        ("http://a.test", "TRACE", "", BAD),
        ("http://a.test", "put", "", BAD),
    ] {
        let asked = fields(origin, method, headers);
        let got = preflight(Asked::Rules(&rules), "/bucket/key", &asked);
        assert_eq!(got, expected, "{origin} {method} {headers:.40}");
    }
}

const PUTS_OF_NO_HOST: [&str; 5] = [
    "allow-credentials: true",
    "allow-methods: PUT",
    "allow-origin: http://.test",
    "expose-headers: ETag",
    "vary: …",
];

#[test]
fn buckets_without_rules_and_none_at_all_are_told_apart() {
    let rules = CorsRules::parse(document(TABLE_RULES).as_bytes()).unwrap();
    let put = fields("http://b", "PUT", "");
    let alone = fields("http://b", "", "");
    for (bucket, target, asked, expected) in [
        (
            Asked::NoBucket,
            "/bucket/key",
            &put,
            vec!["AccessForbidden", "PUT", "BUCKET"],
        ),
        (
            Asked::NoRules,
            "/bucket/key",
            &put,
            vec!["AccessForbidden", "PUT", "BUCKET"],
        ),
        (
            Asked::NoRules,
            "/bucket",
            &alone,
            vec!["AccessForbidden", "OPTIONS", "BUCKET"],
        ),
        (
            Asked::Rules(&rules),
            "/bucket",
            &put,
            vec!["AccessForbidden", "PUT", "BUCKET"],
        ),
        (Asked::Rules(&rules), "/bucket", &alone, vec!["BadRequest"]),
        (Asked::NoRules, "/bucket", &vec![], vec!["BadRequest"]),
    ] {
        assert_eq!(preflight(bucket, target, asked), expected, "{bucket:?} {target}");
    }
}

#[test]
fn answers_say_what_the_rule_of_the_request_says() {
    let rules = CorsRules::parse(document(TABLE_RULES).as_bytes()).unwrap();
    const NONE: &[&str] = &["vary: …"];
    for (method, asked, expected) in [
        ("PUT", fields("http://a.test", "", ""), PUTS),
        ("GET", fields("http://a.test", "", ""), ALL),
        ("DELETE", fields("http://two", "", ""), TWO),
        ("HEAD", fields("http://two", "", ""), NONE),
        ("DELETE", fields("http://a.test", "", ""), NONE),
        // As in S3, what a preflight would ask counts here too.
        ("GET", fields("http://a.test", "PUT", ""), PUTS),
        ("PUT", fields("http://a.test", "DELETE", ""), NONE),
        ("PUT", fields("http://a.test", "", "x-amz-date"), PUTS),
        ("PUT", fields("http://a.test", "", "authorization"), NONE),
    ] {
        let parts = parts(method, "/bucket/key", &asked);
        let mut headers = HeaderMap::new();
        rules.add_to(&CrossOrigin::of(&parts.headers).unwrap(), method, &mut headers);
        assert_eq!(shown(&headers), expected, "{method} {asked:?}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_parser_panic(text in "(<(/?)(CORSRule|ID|AllowedOrigin|AllowedMethod)>|[*a<>&;]){0,20}") {
        if let Ok(rules) = CorsRules::parse(document(&text).as_bytes()) {
            proptest::prop_assert_eq!(CorsRules::parse(rules.to_xml().as_bytes()), Ok(rules));
        }
    }
}
