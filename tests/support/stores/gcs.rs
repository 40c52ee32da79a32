//! The part of Google Cloud Storage's XML API that `object_store` uses: create with `x-goog-if-generation-match: 0`,
//! ranges, HEAD, paged listing, DELETE. No emulator supports this.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::wire::{Request, Response, Server};

/// Objects per page of a listing. Few, so that small tests have many pages.
const PAGE_OBJECTS: usize = 5;
const MODIFIED: &str = "Mon, 23 Nov 2026 03:00:00 GMT";

/// Not a real token.
const TOKEN: &str = "a-token-for-tests";

type Objects = BTreeMap<String, Bytes>;

/// A server with one bucket, named `bucket`.
pub async fn start() -> Server {
    let objects: Arc<Mutex<Objects>> = Arc::default();
    Server::start(move |request| {
        let response = answer(&mut objects.lock().expect("not poisoned"), &request);
        Box::pin(async move { response.into() })
    })
    .await
}

/// The settings for opening the store. A token is required: `google_skip_signature` applies only to reads, and a PUT
/// would ask the metadata service of the test machine.
pub fn settings(url: &str) -> Vec<(String, String)> {
    let settings = [("google_base_url", url), ("google_bearer_token", TOKEN), ("allow_http", "true")];
    settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

fn answer(objects: &mut Objects, request: &Request) -> Response {
    let url = url::Url::parse(&format!("http://host{}", request.target)).expect("a target");
    // The client escapes everything except letters and digits.
    let path = format!("path={}", url.path().trim_start_matches('/'));
    let (_, path) = url::form_urlencoded::parse(path.as_bytes()).next().expect("a pair");
    let (bucket, name) = path.split_once('/').unwrap_or((&path, ""));
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Response::error(401, "AuthenticationRequired");
    }
    if bucket != "bucket" {
        return Response::error(404, "NoSuchBucket");
    }
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    match request.method.as_str() {
        "GET" if name.is_empty() => list(objects, &query),
        "PUT" => put(objects, name, request),
        "DELETE" if objects.remove(name).is_some() => Response::new(204, ""),
        "GET" | "HEAD" if objects.contains_key(name) => get(&objects[name], request),
        "GET" | "HEAD" | "DELETE" => Response::error(404, "NoSuchKey"),
        _ => Response::error(405, "MethodNotAllowed"),
    }
}

fn put(objects: &mut Objects, name: &str, request: &Request) -> Response {
    if request.header("x-goog-if-generation-match") == Some("0") && objects.contains_key(name) {
        return Response::error(412, "PreconditionFailed");
    }
    objects.insert(name.to_owned(), request.body.clone());
    let headers = vec![("ETag", etag(&request.body)), ("x-goog-generation", "1".to_owned())];
    Response { headers, ..Response::new(200, "") }
}

fn get(object: &Bytes, request: &Request) -> Response {
    let mut headers = vec![("ETag", etag(object)), ("Last-Modified", MODIFIED.to_owned())];
    if request.method == "HEAD" {
        return Response { headers, content_length: Some(object.len()), ..Response::new(200, "") };
    }
    let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return Response { headers, ..Response::new(200, object.clone()) };
    };
    let (first, last): (usize, usize) = (range.0.parse().expect("a range"), range.1.parse().expect("a range"));
    if first >= object.len() {
        return Response::error(416, "InvalidRange");
    }
    let last = last.min(object.len() - 1);
    headers.push(("Content-Range", format!("bytes {first}-{last}/{}", object.len())));
    Response { headers, ..Response::new(206, object.slice(first..=last)) }
}

/// `token` is the last name of the previous page.
fn list(objects: &Objects, query: &BTreeMap<String, String>) -> Response {
    let get = |key: &str| query.get(key).map_or("", String::as_str);
    let (prefix, token) = (get("prefix"), get("continuation-token"));
    let mut names = objects.keys().filter(|name| name.starts_with(prefix) && name.as_str() > token);
    let mut page = String::new();
    let mut prefixes = std::collections::BTreeSet::new();
    let mut last = None;
    for name in names.by_ref().take(PAGE_OBJECTS) {
        last = Some(name);
        match name[prefix.len()..].split_once('/') {
            Some((part, _)) if get("delimiter") == "/" => {
                prefixes.insert(format!("{prefix}{part}/"));
            }
            _ => page.push_str(&format!(
                "<Contents><Key>{name}</Key><LastModified>2026-11-23T03:00:00.000Z</LastModified>\
                 <ETag>{}</ETag><Size>{}</Size></Contents>",
                etag(&objects[name]),
                objects[name].len()
            )),
        }
    }
    for prefix in prefixes {
        page.push_str(&format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"));
    }
    if let (Some(_), Some(last)) = (names.next(), last) {
        page.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    Response::new(200, format!("<?xml version=\"1.0\"?><ListBucketResult>{page}</ListBucketResult>"))
}

fn etag(bytes: &Bytes) -> String {
    format!("\"{}\"", blake3::hash(bytes).to_hex())
}
