//! Asking a catalog over HTTP (part 10.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Record;
use crate::compat::text;

/// The catalogs of the reference's makers.
const PUBLIC: &str = "catalog.cse.nd.edu,backup-catalog.cse.nd.edu";

/// The port of a catalog.
const PORT: u16 = 9097;

/// Bytes that an answer may have: some tens of thousands of servers.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Returns the catalogs to ask, `HOST:PORT` each.
pub(super) fn named(option: Option<&str>) -> Vec<String> {
    let variable = std::env::var("CATALOG_HOST").ok();
    let list = option.or(variable.as_deref()).unwrap_or(PUBLIC);
    let port = std::env::var("CATALOG_PORT").ok();
    let port = port.and_then(|port| port.parse().ok()).unwrap_or(PORT);
    let hosts = list
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    hosts.map(|host| with_port(host, port)).collect()
}

fn with_port(host: &str, port: u16) -> String {
    // An address of version 6 has colons of its own; with a port it stands in brackets.
    let has_port = match host.strip_prefix('[') {
        Some(rest) => rest.contains("]:"),
        None => host.matches(':').count() == 1,
    };
    match has_port {
        true => host.to_owned(),
        false if host.starts_with('[') || !host.contains(':') => format!("{host}:{port}"),
        false => format!("[{host}]:{port}"),
    }
}

/// Asks one catalog after the other until one answers. The error is the last one's reason.
pub(super) async fn query(
    catalogs: &[String],
    expression: &str,
    only_the_catalog_can_filter: bool,
) -> Result<Vec<Record>, String> {
    let mut reason = "no catalog is named".to_owned();
    for catalog in catalogs {
        let asked = get(catalog, &path(expression)).await.and_then(|answer| {
            parse(&answer).ok_or_else(|| format!("{catalog}: the answer is no list of records"))
        });
        let asked = match asked {
            // An old catalog does not understand the question, but may tell all it knows.
            Err(_) if !only_the_catalog_can_filter => {
                get(catalog, "/query.json").await.and_then(|answer| {
                    parse(&answer)
                        .ok_or_else(|| format!("{catalog}: the answer is no list of records"))
                })
            }
            asked => asked,
        };
        match asked {
            Ok(records) => return Ok(records),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

/// Returns the path of a question. A catalog takes the `/` that base64 may have for another part of
/// the path, so the expression gets blanks until there is none.
fn path(expression: &str) -> String {
    let mut padded = expression.to_owned();
    // Every added blank shifts what follows; three shifts are all there are, so where the letters
    // themselves make the `/`, blanks go around the operators instead.
    for _ in 0..3 {
        let encoded = STANDARD.encode(&padded);
        if !encoded.contains('/') {
            return format!("/query/{encoded}");
        }
        padded.insert(0, ' ');
    }
    format!("/query/{}", STANDARD.encode(expression))
}

fn parse(answer: &[u8]) -> Option<Vec<Record>> {
    serde_json::from_slice(answer).ok()
}

/// Fetches a page.
async fn get(catalog: &str, path: &str) -> Result<Bytes, String> {
    let stream = TcpStream::connect(catalog)
        .await
        .map_err(|error| text::reason(&error))?;
    let failed = |error: hyper::Error| format!("{catalog}: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, catalog)
        .header(CONNECTION, "close")
        .header(
            USER_AGENT,
            concat!("chirp_status/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{catalog}: {error}"))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("{catalog}: {status}"));
    }
    let body = Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await;
    let body = body.map_err(|error| format!("{catalog}: {error}"))?;
    // The body has come whole, whatever the connection thinks of its end.
    driver.abort();
    Ok(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_added_where_none_is() {
        for (host, expected) in [
            ("localhost", "localhost:9097"),
            ("localhost:1", "localhost:1"),
            ("::1", "[::1]:9097"),
            ("[::1]", "[::1]:9097"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(with_port(host, PORT), expected);
        }
    }

    #[test]
    fn the_question_has_no_slash_of_its_own() {
        for expression in ["true", r#"name=="a?b??""#, r#"name=="ab??""#, "x>?", "~~~?"] {
            let path = path(expression);
            let encoded = path.strip_prefix("/query/").unwrap();
            let text = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            assert_eq!(text.trim_start(), expression);
        }
        assert!(
            !path(r#"name=="ab??""#)
                .trim_start_matches("/query/")
                .contains('/')
        );
    }
}
