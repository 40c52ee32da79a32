//! A store that lets the last of two writers win: `init` refuses it, and `doctor` detects it.

use crate::remote::Bucket;
use crate::support::sandbox::Sandbox;
use crate::support::stores::gcs;
use crate::support::stores::wire::{Reply, Server, forward};

/// Forwards requests without the condition that makes a create conditional.
async fn ignoring(upstream: std::net::SocketAddr) -> Server {
    Server::start(move |mut request| {
        Box::pin(async move {
            let kept = request.head.split("\r\n").filter(|line| !line.contains("generation-match"));
            request.head = kept.collect::<Vec<_>>().join("\r\n");
            Reply::Raw(forward(upstream, &request).await.expect("answers"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditional_creates_is_refused_by_init_and_doctor() {
    let server = gcs::start().await;
    let careless = ignoring(server.address).await;
    let bucket = |url: &str| Bucket { url: "gs://bucket", settings: gcs::settings(url), family: "google" };
    let at = |url: &str| {
        let mut sandbox = Sandbox::new();
        bucket(url).configure(&mut sandbox);
        sandbox
    };
    let sandbox = at(&careless.url());
    let err = sandbox.fails(7, &["init", "gs://bucket/repo"]);
    assert!(
        err.contains("gs://bucket/repo") && err.contains("\nhint: choose a store that supports conditional"),
        "{err}"
    );
    assert_eq!(sandbox.path("keys").read_dir().map_or(0, Iterator::count), 0);
    assert!(!sandbox.path("sidekeep.toml").exists());
    assert!(bucket(&server.url()).names("repo").await.is_empty());

    // A repository that was created while the store was still correct.
    let mut sandbox = at(&server.url());
    sandbox.ok(&["init", "gs://bucket/repo"]);
    bucket(&careless.url()).configure(&mut sandbox);
    let ran = sandbox.run(&["doctor"]);
    assert!(ran.code == 3 && ran.out.contains("create only once") && ran.out.contains("conditional"), "{}", ran.out);
}
