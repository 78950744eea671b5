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
        self.fits(text, <[u8]>::eq)
    }

    fn matches_ignoring_case(&self, text: &str) -> bool {
        self.fits(text, <[u8]>::eq_ignore_ascii_case)
    }

    fn fits(&self, text: &str, same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let text = text.as_bytes();
        let Some((start, end)) = self.0.split_once('*') else {
            return same(text, self.0.as_bytes());
        };
        let middle = text.len().checked_sub(start.len() + end.len());
        middle.is_some_and(|middle| {
            let (head, tail) = text.split_at(start.len());
            same(head, start.as_bytes()) && same(&tail[middle..], end.as_bytes())
        })
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
            if name != "CORSRule" {
                return Err(S3Error::malformed_xml());
            }
            if rules.len() >= limits::CORS_RULES_MAX {
                let message = format!(
                    "The number of CORS rules should not exceed allowed limit of {} rules.",
                    limits::CORS_RULES_MAX
                );
                return Err(S3Error::new(ErrorCode::InvalidRequest, message));
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

    /// What a request that was answered, well or not, is to say of these rules besides. As in S3, what a preflight
    /// would ask counts where the request itself says it. `Vary` is said to pages that may not read it, too: what is
    /// cached for one of them is not what another is to get.
    pub fn add_to(&self, request: &CrossOrigin<'_>, method: &str, headers: &mut HeaderMap) {
        headers.append(header::VARY, VARY);
        if let Some((rule, origin)) = self.find(request, request.method.unwrap_or(method)) {
            rule.add_to(request, origin, headers);
        }
    }

    fn find(&self, request: &CrossOrigin<'_>, method: &str) -> Option<(&CorsRule, &Pattern)> {
        if request.headers.len() > limits::HEADERS_MAX {
            return None;
        }
        self.0.iter().find_map(|rule| {
            let mut origins = rule.allowed_origins.iter();
            let pattern = origins.find(|allowed| allowed.matches(request.origin))?;
            let fits = rule.allowed_methods.contains(&method)
                && request.headers.iter().all(|name| rule.allows_header(name));
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
                "AllowedHeader" => rule.allowed_headers.push(pattern("AllowedHeader", &text)?),
                "AllowedMethod" => rule.allowed_methods.push(method(&text)?),
                // S3 takes an empty one, which is nobody's.
                "AllowedOrigin" if text.is_empty() => rule.allowed_origins.push(Pattern(text)),
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

    fn allows_header(&self, name: &str) -> bool {
        let mut allowed = self.allowed_headers.iter();
        allowed.any(|allowed| allowed.matches_ignoring_case(name))
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
#[derive(Clone, Debug)]
pub struct CrossOrigin<'a> {
    origin: &'a str,
    value: &'a HeaderValue,
    /// `Access-Control-Request-Method`
    method: Option<&'a str>,
    /// `Access-Control-Request-Headers`, in lower case.
    headers: Vec<String>,
}

impl<'a> CrossOrigin<'a> {
    /// Of a request with one `Origin`.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let origin = value.to_str().ok().filter(|origin| !origin.is_empty())?;
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let asked = text(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or("");
        let names = asked.split(',').map(str::trim).filter(|name| !name.is_empty());
        // One more than a request may have is enough to refuse them all.
        let names = names.take(limits::HEADERS_MAX + 1);
        Some(Self {
            origin,
            value,
            method: text(header::ACCESS_CONTROL_REQUEST_METHOD),
            headers: names.map(str::to_ascii_lowercase).collect(),
        })
    }
}

/// The question a browser asks before a request: may a page of this origin send it?
#[derive(Clone, Debug)]
pub struct Preflight<'a> {
    origin: CrossOrigin<'a>,
    level: Level,
}

/// A bucket as preflights see it.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// It is not there.
    NoBucket,
    /// It has no rules.
    NoRules,
    /// It has these.
    Rules(&'a CorsRules),
}

impl<'a> Preflight<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// BadRequest when it does not say who asks.
    pub fn parse(head: &'a Head<'_>) -> Result<Self> {
        let origin = CrossOrigin::of(head.headers()).ok_or_else(|| {
            insufficient("Insufficient information. Origin request header needed.".to_owned())
        })?;
        Ok(Self {
            origin,
            level: head.level(),
        })
    }

    /// The answer's headers.
    ///
    /// # Errors
    /// AccessForbidden when there are no rules, or none allows it; BadRequest when it does not say what it asks for.
    pub fn judge(&self, asked: Asked<'_>) -> Result<HeaderMap> {
        let rules = match asked {
            Asked::NoBucket => return Err(self.forbidden("CORSResponse: Bucket not found", Level::Bucket)),
            Asked::NoRules => {
                let message = "CORSResponse: CORS is not enabled for this bucket.";
                return Err(self.forbidden(message, Level::Bucket));
            }
            Asked::Rules(rules) => rules,
        };
        let method = self.origin.method.unwrap_or("null");
        if !METHODS.contains(&method) {
            let message = format!("Invalid Access-Control-Request-Method: {method}");
            return Err(insufficient(message));
        }
        let (rule, pattern) = rules.find(&self.origin, method).ok_or_else(|| {
            self.forbidden(
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted \
                 by the resource's CORS spec.",
                self.level,
            )
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, VARY);
        rule.add_to(&self.origin, pattern, &mut headers);
        if !self.origin.headers.is_empty() {
            let allowed = self.origin.headers.join(", ");
            set(&mut headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &allowed);
        }
        Ok(headers)
    }

    fn forbidden(&self, message: &'static str, level: Level) -> S3Error {
        let resource = match level {
            Level::Object => "OBJECT",
            Level::Bucket | Level::Service => "BUCKET",
        };
        S3Error::new(ErrorCode::AccessForbidden, message)
            .with("Method", self.origin.method.unwrap_or("OPTIONS"))
            .with("ResourceType", resource)
    }
}

fn insufficient(message: String) -> S3Error {
    S3Error::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
#[path = "cors_tests.rs"]
mod tests;
