//! Static files of the built interface.

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    response::Response,
};
use server::http::assets::Site;
use std::fs;
use tower::ServiceExt;

async fn get(router: &Router, path: &str, encoding: &str) -> Response {
    let request = Request::get(path).header(header::ACCEPT_ENCODING, encoding).body(Body::empty()).expect("a request");
    router.clone().oneshot(request).await.expect("infallible")
}

fn header_of<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn files_are_served_compressed_and_kept_by_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let pkg = folder.path().join("pkg");
    fs::create_dir(&pkg).expect("pkg");
    let hashed = "kontor.Y4xTzu2tGqTq6eKYB7mxLA.wasm";
    for (name, content) in [("kontor.js", "export {}"), (hashed, "plain"), ("kontor.Y4xTzu2tGqTq6eKYB7mxLA.wasm.br", "brotli")] {
        fs::write(pkg.join(name), content).expect("a file");
    }
    fs::write(folder.path().join("favicon.svg"), "<svg/>").expect("a file");
    fs::write(folder.path().join("favicon.svg.gz"), "gzip").expect("a file");

    let router = Site::find(Some(folder.path())).expect("a site").routes().expect("routes");
    let wasm = get(&router, &format!("/pkg/{hashed}"), "br, gzip").await;
    assert_eq!(wasm.status(), StatusCode::OK);
    assert_eq!(header_of(&wasm, "content-encoding"), "br");
    assert_eq!(header_of(&wasm, "content-type"), "application/wasm");
    assert_eq!(header_of(&wasm, "cache-control"), "public, max-age=31536000, immutable");

    let script = get(&router, "/pkg/kontor.js", "br").await;
    assert_eq!(header_of(&script, "cache-control"), "public, no-cache", "a name without a hash may change its content");
    assert_eq!(header_of(&get(&router, "/favicon.svg", "gzip").await, "content-encoding"), "gzip");
    assert_eq!(get(&router, "/favicon.svg.gz", "").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get(&router, "/pkg/../../etc/passwd", "").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get(&router, "/pkg/missing.js", "").await.status(), StatusCode::NOT_FOUND);
}

#[test]
fn a_missing_build_says_where_it_was_looked_for() {
    let error = Site::find(Some(std::path::Path::new("/nowhere"))).expect_err("no build").to_string();
    assert!(error.contains("/nowhere") && error.contains("server.site_root"), "{error}");
}
