//! Files behind URLs, for builds: [`UrlFetcher`], carried out over the registry client's connections.
//!
//! Owns redirects, retries, the question whether a version is known, and what a server's words are taken for. Invariant: a user and a
//! password in a URL go to that URL's origin alone (SECURITY D2), and nothing leads from https to http (D3).

use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use engine_core::url_fetcher::{FetchRequest, Fetched, FetchedFile, FileVersion, UrlFetcher};
use futures_util::stream;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use reqwest::{Method, Request, Response, StatusCode, Url};
use tokio::time::sleep;

use crate::client::OciRegistry;
use crate::fault::Fault;
use crate::origin::Origin;
use crate::retry::retry_after;
use crate::session::{MAX_ERROR_BODY, Session, is_passing};

/// As browsers and Go's client have it.
const MAX_REDIRECTS: usize = 10;

#[async_trait]
impl UrlFetcher for OciRegistry {
    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched> {
        let told = |fault: Fault| about(&request.url, fault);
        let session = self.session();
        let (url, authorization) = parsed(&request.url).map_err(told)?;
        let mut failed = 0;
        let response = loop {
            let fault = match ask(session, &url, authorization.as_ref(), request.known.as_ref()).await {
                Ok(response) if !is_passing(response.status()) => break response,
                Ok(response) => refusal(session, response).await,
                Err(fault) => fault,
            };
            failed += 1;
            let wait = session.retry.delay(failed, fault.waits());
            match wait.filter(|_| fault.is_retryable() && failed < session.retry.attempts) {
                Some(wait) => sleep(wait).await,
                None => return Err(told(fault)),
            }
        };
        match response.status() {
            StatusCode::NOT_MODIFIED if request.known.is_some() => Ok(Fetched::Unchanged),
            StatusCode::OK => file(self.clone(), request, response).map(Fetched::File).map_err(told),
            _ => Err(told(refusal(session, response).await)),
        }
    }
}

/// The error of a URL; what is secret of that is not in it.
fn about(url: &str, fault: Fault) -> Error {
    let shown = match Url::parse(url) {
        Ok(mut url) => {
            // Neither can fail where there is a host; where there is none, there is no password either.
            let _ = url.set_password(None).and_then(|()| url.set_username(""));
            url.to_string()
        }
        Err(_) => url.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    fault.into_error_of("fetch file", "url", &shown)
}

/// The URL without a user and a password, and these as a header.
fn parsed(text: &str) -> Result<(Url, Option<HeaderValue>), Fault> {
    let wrong = |why: &str| Fault::new(ErrorKind::InvalidArgument, why);
    let mut url = Url::parse(text).map_err(|_| wrong("it is no URL"))?;
    if Origin::of(&url).is_none() {
        return Err(wrong("only http and https are spoken"));
    }
    let authorization = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => {
            let decode = |text: &str| percent_decoded(text);
            let plain = [decode(user), b":".to_vec(), decode(password.unwrap_or_default())].concat();
            let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(plain)))
                .map_err(|_| wrong("its user and password cannot be sent"))?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    let cleared = url.set_password(None).and_then(|()| url.set_username(""));
    cleared.map_err(|()| wrong("it has no host"))?;
    url.set_fragment(None);
    Ok((url, authorization))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|two| *first == b'%' && two.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Asks, and follows where the server leads.
async fn ask(
    session: &Session,
    first: &Url,
    authorization: Option<&HeaderValue>,
    known: Option<&FileVersion>,
) -> Result<Response, Fault> {
    let own = Origin::of(first);
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let mut request = Request::new(Method::GET, url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = authorization.filter(|_| Origin::of(&url) == own) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let conditions = [
            (IF_NONE_MATCH, known.and_then(|known| known.etag.as_deref())),
            // Where there is an ETag, a server must not look at the time (RFC 9110, 13.1.3).
            (IF_MODIFIED_SINCE, known.and_then(|known| known.last_modified.as_deref())),
        ];
        for (name, value) in conditions {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let response = session.transport.execute(request).await?;
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        url = next(&url, response.headers())?;
    }
    Err(Fault::new(ErrorKind::Unavailable, format!("it redirects more than {MAX_REDIRECTS} times")))
}

/// Where a redirect leads.
fn next(from: &Url, headers: &HeaderMap) -> Result<Url, Fault> {
    let refuse =
        |why: &str| Fault::new(ErrorKind::PermissionDenied, format!("its redirect was refused: {why}"));
    let location = text(headers, &LOCATION).ok_or_else(|| Fault::corrupt("its redirect has no Location"))?;
    let url = from.join(&location).map_err(|_| Fault::corrupt("the Location of its redirect is no URL"))?;
    let origin = Origin::of(&url).ok_or_else(|| refuse("it leads to neither http nor https"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it carries a user name"));
    }
    if !origin.is_secure() && Origin::of(from).is_some_and(|from| from.is_secure()) {
        return Err(refuse("it leads from https to http"));
    }
    Ok(url)
}

async fn refusal(session: &Session, response: Response) -> Fault {
    let (status, wait) = (response.status(), retry_after(response.headers()));
    let body = session.transport.body(response, MAX_ERROR_BODY).await.unwrap_or_default();
    Fault::from_status(status, &body, &[]).wait(wait)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The file that a server sends.
fn file(registry: OciRegistry, request: &FetchRequest, response: Response) -> Result<FetchedFile, Fault> {
    let headers = response.headers();
    if text(headers, &CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(Fault::corrupt("it sends the file in an encoding that was not asked for"));
    }
    let (max, length) = (request.max_bytes, response.content_length());
    if length.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    let last_modified = text(headers, &LAST_MODIFIED);
    let modified: Option<SystemTime> =
        last_modified.as_deref().and_then(|time| httpdate::parse_http_date(time).ok());
    let name = text(headers, &CONTENT_DISPOSITION).and_then(|text| file_name(&text));
    let media_type = text(headers, &CONTENT_TYPE)
        .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let version = FileVersion::new(text(headers, &ETAG), last_modified);
    let mut file = FetchedFile::new(body(registry, request.url.clone(), response, length, max));
    (file.name, file.media_type, file.modified, file.version) = (name, media_type, modified, version);
    Ok(file)
}

fn too_large(max: u64) -> Fault {
    Fault::new(ErrorKind::ResourceExhausted, format!("it takes more than {max} bytes"))
}

/// The bytes of an answer, all of them or an error.
fn body(registry: OciRegistry, url: String, response: Response, length: Option<u64>, max: u64) -> ByteStream {
    Box::pin(stream::try_unfold((response, 0_u64), move |(mut response, mut done)| {
        let (registry, url) = (registry.clone(), url.clone());
        async move {
            let piece: Result<Option<Bytes>, Fault> = registry.session().transport.chunk(&mut response).await;
            let piece = piece.map_err(|fault| about(&url, fault))?;
            let Some(piece) = piece else {
                return match length.filter(|length| *length != done) {
                    Some(length) => {
                        let told = format!("it ended after {done} of {length} bytes");
                        Err(about(&url, Fault::passing(ErrorKind::Unavailable, told)))
                    }
                    None => Ok(None),
                };
            };
            done += piece.len() as u64;
            if done > max {
                return Err(about(&url, too_large(max)));
            }
            Ok(Some((piece, (response, done))))
        }
    }))
}

/// The name that `Content-Disposition` gives (RFC 6266): never a path.
fn file_name(text: &str) -> Option<String> {
    let mut plain = None;
    for part in parameters(text) {
        let Some((key, value)) = part.split_once('=') else { continue };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            // The other character sets are nobody's.
            "filename*" => {
                if let Some((charset, encoded)) = value.split_once('\'')
                    && charset.eq_ignore_ascii_case("utf-8")
                    && let Some((_, encoded)) = encoded.split_once('\'')
                    && let Ok(name) = String::from_utf8(percent_decoded(encoded))
                {
                    plain = Some(name);
                    break;
                }
            }
            "filename" => plain = Some(unquoted(value)),
            _ => {}
        }
    }
    let name = plain?;
    let name = name.rsplit(['/', '\\']).next()?.trim();
    let good = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(char::is_control);
    (good && name.len() <= 255).then(|| name.to_owned())
}

/// The parts between semicolons that are in no quotes.
fn parameters(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let (mut text, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(c);
            escaped = false;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        for (text, name) in [
            ("attachment; filename=a.tar", Some("a.tar")),
            ("attachment; filename=\"a; b.tar\"", Some("a; b.tar")),
            ("attachment; filename=\"a\\\"b\"", Some("a\"b")),
            ("attachment; filename=x; filename*=UTF-8''%c3%a4.txt", Some("ä.txt")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"C:\\\\x\\\\y.exe\"", Some("y.exe")),
            ("attachment; filename=..", None),
            ("attachment; filename=\"\"", None),
            ("inline", None),
        ] {
            assert_eq!(file_name(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn d2_passwords_are_in_no_url_and_redirects_stay_secure() {
        let (url, authorization) = parsed("https://user:p%40ss@host/x?q#f").unwrap();
        assert_eq!(url.as_str(), "https://host/x?q");
        assert_eq!(authorization.unwrap().to_str().unwrap(), "Basic dXNlcjpwQHNz");
        assert!(!about("https://user:pass@host/x", Fault::corrupt("x")).report().contains("pass"));
        for wrong in ["file:///etc/passwd", "ftp://x/y", "x", "data:,x", "unix:/x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let led = |from: &str, to: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(to).unwrap())]);
            next(&Url::parse(from).unwrap(), &headers).map(|url| url.to_string()).ok()
        };
        assert_eq!(led("http://a/b/c", "d").as_deref(), Some("http://a/b/d"));
        assert_eq!(led("http://a/b", "https://x/y").as_deref(), Some("https://x/y"));
        for (from, to) in [
            ("https://a/b", "http://a/b"),
            ("http://a/b", "file:///etc/passwd"),
            ("http://a/b", "ftp://a/b"),
            ("http://a/b", "http://u:p@a/b"),
        ] {
            assert_eq!(led(from, to), None, "{from} {to}");
        }
    }
}
