//! Rules of cross-origin requests: their document, which rule a request falls under, and the headers that
//! follow from it. (Amazon S3 user guide, "Using cross-origin resource sharing", and Fetch, section 3.3.)

use super::error::{ErrorCode, Result, S3Error};
use super::head::{Head, Level};
use super::limits;
use super::xml::{XmlReader, XmlWriter};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const VARY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method");

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule {
    id: Option<String>,
    allowed_headers: Vec<Pattern>,
    allowed_methods: Vec<&'static str>,
    allowed_origins: Vec<Pattern>,
    expose_headers: Vec<String>,
    max_age_seconds: Option<u32>,
}

/// The rules of a bucket, 1 to 100. The first that fits a request is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsRules(Vec<CorsRule>);

/// Text with at most one `*`, which stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0 == text,
            Some((start, end)) => {
                text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
            }
        }
    }
}

impl CorsRules {
    /// Reads a `CORSConfiguration` document.
    ///
    /// # Errors
    /// MalformedXML; InvalidRequest for methods and wildcards that S3 does not allow.
    pub fn parse(document: &[u8]) -> Result<Self> {
        let mut xml = XmlReader::open(document, "CORSConfiguration")?;
        let mut rules = Vec::new();
        while let Some(name) = xml.next_child()? {
            if name != "CORSRule" || rules.len() >= limits::CORS_RULES_MAX {
                return Err(S3Error::malformed_xml());
            }
            rules.push(CorsRule::read(&mut xml)?);
        }
        xml.finish()?;
        if rules.is_empty() {
            return Err(S3Error::malformed_xml());
        }
        Ok(Self(rules))
    }

    /// The document, in the order of the API reference.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.root("CORSConfiguration");
        for rule in &self.0 {
            rule.write(&mut xml);
        }
        xml.close("CORSConfiguration");
        xml.finish()
    }

    /// What a request that was answered, well or not, is to say of these rules besides.
    pub fn add_to(&self, request: &CrossOrigin<'_>, method: &str, headers: &mut HeaderMap) {
        headers.append(header::VARY, VARY);
        if let Some((rule, origin)) = self.find(request.origin, method, &[]) {
            rule.add_to(request, origin, headers);
        }
    }

    fn find(&self, origin: &str, method: &str, headers: &[String]) -> Option<(&CorsRule, &Pattern)> {
        self.0.iter().find_map(|rule| {
            let pattern = rule
                .allowed_origins
                .iter()
                .find(|allowed| allowed.matches(origin))?;
            let fits = rule.allowed_methods.contains(&method)
                && headers
                    .iter()
                    .all(|name| rule.allowed_headers.iter().any(|allowed| allowed.matches(name)));
            fits.then_some((rule, pattern))
        })
    }
}

impl CorsRule {
    fn read(xml: &mut XmlReader<'_>) -> Result<Self> {
        let mut rule = Self::default();
        while let Some(name) = xml.next_child()? {
            let text = xml.text(limits::XML_TEXT_BYTES_MAX)?;
            match name.as_str() {
                "ID" if rule.id.is_none() && text.chars().count() <= limits::CORS_ID_CHARACTERS_MAX => {
                    rule.id = Some(text);
                }
                "AllowedHeader" => {
                    let pattern = pattern("AllowedHeader", &text.to_ascii_lowercase())?;
                    rule.allowed_headers.push(pattern);
                }
                "AllowedMethod" => rule.allowed_methods.push(method(&text)?),
                "AllowedOrigin" => rule.allowed_origins.push(pattern("AllowedOrigin", &text)?),
                "ExposeHeader" => rule.expose_headers.push(exposed(text)?),
                "MaxAgeSeconds" if rule.max_age_seconds.is_none() => {
                    let seconds = text.trim().parse().map_err(|_| S3Error::malformed_xml())?;
                    rule.max_age_seconds = Some(seconds);
                }
                _ => return Err(S3Error::malformed_xml()),
            }
        }
        if rule.allowed_origins.is_empty() || rule.allowed_methods.is_empty() {
            return Err(S3Error::malformed_xml());
        }
        Ok(rule)
    }

    fn write(&self, xml: &mut XmlWriter) {
        xml.open("CORSRule");
        for allowed in &self.allowed_headers {
            xml.text("AllowedHeader", &allowed.0);
        }
        for allowed in &self.allowed_methods {
            xml.text("AllowedMethod", allowed);
        }
        for allowed in &self.allowed_origins {
            xml.text("AllowedOrigin", &allowed.0);
        }
        for exposed in &self.expose_headers {
            xml.text("ExposeHeader", exposed);
        }
        if let Some(id) = &self.id {
            xml.text("ID", id);
        }
        if let Some(seconds) = self.max_age_seconds {
            xml.number("MaxAgeSeconds", seconds.into());
        }
        xml.close("CORSRule");
    }

    /// `origin` is the pattern that the request's origin matched.
    fn add_to(&self, request: &CrossOrigin<'_>, origin: &Pattern, headers: &mut HeaderMap) {
        if origin.0 == "*" {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, request.value.clone());
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        let methods = self.allowed_methods.join(", ");
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &methods);
        if !self.expose_headers.is_empty() {
            let exposed = self.expose_headers.join(", ");
            set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &exposed);
        }
        if let Some(seconds) = self.max_age_seconds {
            set(headers, header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
    }
}

/// Values made here can always stand in a header: rules were checked when they were read.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn method(text: &str) -> Result<&'static str> {
    METHODS.into_iter().find(|known| *known == text).ok_or_else(|| {
        let message = format!("Found unsupported HTTP method in CORS config. Unsupported method is {text}");
        S3Error::new(ErrorCode::InvalidRequest, message)
    })
}

fn pattern(element: &str, text: &str) -> Result<Pattern> {
    if text.matches('*').count() > 1 {
        let message = format!("{element} \"{text}\" can not have more than one wildcard.");
        return Err(S3Error::new(ErrorCode::InvalidRequest, message));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{element} \"{text}\" is not valid.");
        return Err(S3Error::new(ErrorCode::InvalidRequest, message));
    }
    Ok(Pattern(text.to_owned()))
}

fn exposed(text: String) -> Result<String> {
    if text.contains('*') {
        let message = format!(
            "ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
        );
        return Err(S3Error::new(ErrorCode::InvalidRequest, message));
    }
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text),
        Err(_) => Err(S3Error::new(
            ErrorCode::InvalidRequest,
            format!("ExposeHeader \"{text}\" is not valid."),
        )),
    }
}

/// A request that names the origin of the page that sends it.
#[derive(Clone, Copy, Debug)]
pub struct CrossOrigin<'a> {
    origin: &'a str,
    value: &'a HeaderValue,
}

impl<'a> CrossOrigin<'a> {
    /// Of a request with one `Origin`.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let origin = value.to_str().ok().filter(|origin| !origin.is_empty())?;
        Some(Self { origin, value })
    }
}

/// The question a browser asks before a request: may a page of this origin send it?
#[derive(Clone, Debug)]
pub struct Preflight<'a> {
    origin: CrossOrigin<'a>,
    method: &'a str,
    /// In lower case.
    headers: Vec<String>,
    level: Level,
}

impl<'a> Preflight<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// BadRequest when it does not say what it asks for.
    pub fn parse(head: &'a Head<'_>) -> Result<Self> {
        let headers = head.headers();
        let insufficient = |message: String| S3Error::new(ErrorCode::BadRequest, message);
        let origin = CrossOrigin::of(headers).ok_or_else(|| {
            insufficient("Insufficient information. Origin request header needed.".to_owned())
        })?;
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let method = text(header::ACCESS_CONTROL_REQUEST_METHOD).unwrap_or("null");
        if !METHODS.contains(&method) {
            return Err(insufficient(format!(
                "Invalid Access-Control-Request-Method: {method}"
            )));
        }
        let asked = text(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or("");
        let names = asked.split(',').map(str::trim).filter(|name| !name.is_empty());
        // One more than a request may have is enough to refuse them all.
        let names = names.take(limits::HEADERS_MAX + 1);
        Ok(Self {
            origin,
            method,
            headers: names.map(str::to_ascii_lowercase).collect(),
            level: head.level(),
        })
    }

    /// The answer's headers under these rules. A bucket that is not there has none.
    ///
    /// # Errors
    /// AccessForbidden when there are no rules, or none allows it.
    pub fn judge(&self, rules: Option<&CorsRules>) -> Result<HeaderMap> {
        let rules =
            rules.ok_or_else(|| self.forbidden("CORSResponse: CORS is not enabled for this bucket."))?;
        let found = rules
            .find(self.origin.origin, self.method, &self.headers)
            .filter(|_| self.headers.len() <= limits::HEADERS_MAX);
        let (rule, pattern) = found.ok_or_else(|| {
            self.forbidden(
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted \
                 by the resource's CORS spec.",
            )
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, VARY);
        rule.add_to(&self.origin, pattern, &mut headers);
        if !self.headers.is_empty() {
            set(
                &mut headers,
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                &self.headers.join(", "),
            );
        }
        Ok(headers)
    }

    fn forbidden(&self, message: &'static str) -> S3Error {
        S3Error::new(ErrorCode::AccessForbidden, message)
            .with("Method", self.method)
            .with(
                "ResourceType",
                if self.level == Level::Object {
                    "OBJECT"
                } else {
                    "BUCKET"
                },
            )
    }
}

#[cfg(test)]
mod tests {
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
        check(&RULE.repeat(101), Err(ErrorCode::MalformedXML));
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
            ("AllowedOrigin", "", Err(ErrorCode::InvalidRequest)),
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
            "<ID>one</ID><AllowedHeader>x-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
             <MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>",
        );
        let rules = CorsRules::parse(document(&rules).as_bytes()).unwrap();
        assert_eq!(CorsRules::parse(rules.to_xml().as_bytes()), Ok(rules.clone()));
        assert!(rules.to_xml().contains(
            "<CORSRule><AllowedHeader>x-*</AllowedHeader><AllowedMethod>GET</AllowedMethod>\
             <AllowedOrigin>http://*.test</AllowedOrigin><ExposeHeader>ETag</ExposeHeader><ID>one</ID>\
             <MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>"
        ));
    }

    /// The headers of a preflight's answer, as `name: value` in order.
    fn preflight(rules: &str, headers: &[(&str, &str)]) -> std::result::Result<Vec<String>, ErrorCode> {
        let rules = CorsRules::parse(document(rules).as_bytes()).unwrap();
        let parts = parts("OPTIONS", "/bucket/key", headers);
        let endpoint = Endpoint::default();
        let head = Head::parse(&parts, &endpoint).unwrap();
        let answer = Preflight::parse(&head).and_then(|preflight| preflight.judge(Some(&rules)));
        let mut headers: Vec<String> = answer
            .map_err(|error| error.code())?
            .iter()
            .filter(|(name, _)| *name != header::VARY)
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        Ok(headers)
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        let rules = "<CORSRule><AllowedOrigin>http://*.test</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
             <AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader></CORSRule>\
             <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
             <MaxAgeSeconds>9</MaxAgeSeconds></CORSRule>";
        let put = ("access-control-request-method", "PUT");
        let get = ("access-control-request-method", "GET");
        let headers = ("access-control-request-headers", "X-Amz-Date,  x-amz-meta-a");
        assert_eq!(
            preflight(rules, &[("origin", "http://a.test"), put, headers]),
            Ok(vec![
                "access-control-allow-credentials: true".to_owned(),
                "access-control-allow-headers: x-amz-date, x-amz-meta-a".to_owned(),
                "access-control-allow-methods: PUT".to_owned(),
                "access-control-allow-origin: http://a.test".to_owned(),
                "access-control-expose-headers: ETag".to_owned(),
            ])
        );
        assert_eq!(
            preflight(rules, &[("origin", "https://b"), get]),
            Ok(vec![
                "access-control-allow-methods: GET".to_owned(),
                "access-control-allow-origin: *".to_owned(),
                "access-control-max-age: 9".to_owned(),
            ])
        );
        let forbidden = Err(ErrorCode::AccessForbidden);
        assert_eq!(preflight(rules, &[("origin", "https://b"), put]), forbidden);
        // Start and end of the pattern may not share a character.
        assert_eq!(preflight(rules, &[("origin", "http://.tes"), put]), forbidden);
        assert_eq!(
            preflight(rules, &[("origin", "https://b"), get, headers]),
            forbidden
        );
        let many = "x-amz-a,".repeat(129);
        let many = ("access-control-request-headers", many.as_str());
        assert_eq!(
            preflight(rules, &[("origin", "http://a.test"), put, many]),
            forbidden
        );
        let bad = Err(ErrorCode::BadRequest);
        assert_eq!(preflight(rules, &[put]), bad);
        assert_eq!(preflight(rules, &[("origin", "http://a.test")]), bad);
        let strange = ("access-control-request-method", "TRACE");
        assert_eq!(preflight(rules, &[("origin", "http://a.test"), strange]), bad);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in "(<(/?)(CORSRule|ID|AllowedOrigin|AllowedMethod)>|[*a<>&;]){0,20}") {
            if let Ok(rules) = CorsRules::parse(document(&text).as_bytes()) {
                proptest::prop_assert_eq!(CorsRules::parse(rules.to_xml().as_bytes()), Ok(rules));
            }
        }
    }
}
