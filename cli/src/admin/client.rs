//! HTTP to the admin API, signed with SigV4 for the service `ullage`.

use super::credentials::Credentials;
use anyhow::{Context, bail};
use aws_credential_types::Credentials as SigningCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Service name in signatures of the admin API.
const SERVICE: &str = "ullage";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pages asked for at most: a bound on a server that never ends.
const PAGES_MAX: usize = 1_000_000;

/// A client of one gateway's admin port.
#[derive(Debug)]
pub struct Client {
    endpoint: Url,
    region: String,
    credentials: Credentials,
    http: reqwest::Client,
}

impl Client {
    /// A client of `endpoint`.
    pub fn new(endpoint: &str, region: &str, credentials: Credentials) -> anyhow::Result<Self> {
        let endpoint = Url::parse(endpoint).map_err(|error| {
            crate::BadConfiguration(format!(
                "--endpoint {endpoint}: {error}; give a URL like http://host:9001"
            ))
        })?;
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
        let http = http.context("cannot set up HTTP")?;
        Ok(Self {
            endpoint,
            region: region.to_owned(),
            credentials,
            http,
        })
    }

    /// GET.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.send(Method::GET, path, query, Vec::new()).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, &[], serde_json::to_vec(body)?).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
        self.send(Method::POST, path, &[], serde_json::to_vec(body)?)
            .await
    }

    /// All pages of a listing: GET until an answer has no `next`, which is given back as `after`. Answers
    /// the entries of `field` of all pages.
    pub async fn pages(&self, path: &str, query: &[(&str, &str)], field: &str) -> anyhow::Result<Value> {
        let mut entries = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            if let Some(after) = &after {
                query.push(("after", after));
            }
            let mut page = self.get(path, &query).await?;
            match page.get_mut(field).map(Value::take) {
                Some(Value::Array(more)) => entries.extend(more),
                _ => bail!("the answer to {path} has no list of {field}"),
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(Value::Array(entries)),
            }
        }
        bail!("{path} does not end after {PAGES_MAX} pages")
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Value> {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
            // A space is %20 in a signature, never +.
            let encoded = url.query().unwrap_or_default().replace('+', "%20");
            url.set_query(Some(&encoded));
        }
        let headers = self.signature(&method, &url, &body)?;
        let mut request = self.http.request(method, url.clone()).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        let answer =
            answer.with_context(|| format!("cannot reach the gateway's admin port at {}", self.endpoint))?;
        let status = answer.status();
        let text = answer.text().await.context("the answer broke off")?;
        if status.is_success() {
            return serde_json::from_str(&text).with_context(|| format!("the answer is not JSON: {text}"));
        }
        let told = serde_json::from_str::<Value>(&text).ok();
        let message = told.as_ref().and_then(|value| value.get("message")?.as_str());
        bail!("{} ({status})", message.unwrap_or(&text))
    }

    fn signature(&self, method: &Method, url: &Url, body: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
        let Credentials {
            access_key,
            secret_key,
        } = &self.credentials;
        let identity = SigningCredentials::new(access_key, secret_key, None, None, "ullage admin").into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = aws_sigv4::http_request::PercentEncodingMode::Single;
        settings.payload_checksum_kind = aws_sigv4::http_request::PayloadChecksumKind::XAmzSha256;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .context("cannot prepare a signature")?;
        let signable = SignableRequest::new(
            method.as_str(),
            url.as_str(),
            std::iter::empty(),
            SignableBody::Bytes(body),
        );
        let signed = sign(signable.context("cannot sign the request")?, &parameters.into());
        let (instructions, _) = signed.context("cannot sign the request")?.into_parts();
        let headers = instructions
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(headers.collect())
    }
}
