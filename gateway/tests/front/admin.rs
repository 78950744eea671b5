//! The admin API: who may ask, and what it answers.

use super::Gateway;
use super::client::Client;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn only_health_and_metrics_are_public() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin_client();
    gateway.client().send("GET", "/", &[], b"").await.expect(200);
    assert_eq!(admin.unsigned("GET", "/health/live").await.status, 200);
    assert_eq!(admin.unsigned("GET", "/health/ready").await.status, 200);
    let metrics = admin.unsigned("GET", "/metrics").await.expect(200).text();
    assert!(
        metrics.contains("ullage_gateway_requests_total{operation=\"ListBuckets\",status=\"200\"} 1"),
        "{metrics}"
    );
    for target in ["/v1/status", "/v1/users", "/v1/keys", "/", "/debug", "/metrics/x"] {
        assert_eq!(admin.unsigned("GET", target).await.status, 403, "{target}");
    }
    // A signature for S3 is none for the admin API.
    let s3 = Client::new(gateway.admin, "s3", super::ACCESS_KEY, super::SECRET_KEY);
    assert_eq!(s3.send("GET", "/v1/status", &[], b"").await.status, 400);
    assert_eq!(admin.send("GET", "/v1/nothing", &[], b"").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_made_and_have_their_rights() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin_client();
    gateway
        .client()
        .send("PUT", "/bucket", &[], b"")
        .await
        .expect(200);
    for (name, policy) in [("writer", "readwrite"), ("reader", "readonly")] {
        let new = json!({"name": name, "access_key": name, "secret_key": "long enough", "policy": policy});
        let made = admin
            .send("POST", "/v1/users", &[], new.to_string().as_bytes())
            .await
            .expect(200)
            .json();
        assert_eq!(made["name"], name);
        let again = admin
            .send("POST", "/v1/users", &[], new.to_string().as_bytes())
            .await;
        assert_eq!(again.status, 409, "{}", again.text());
    }
    let odd = json!({"name": "x", "access_key": "a/b", "secret_key": "long enough", "policy": "readwrite"});
    assert_eq!(
        admin
            .send("POST", "/v1/users", &[], odd.to_string().as_bytes())
            .await
            .status,
        400
    );
    let names = admin.send("GET", "/v1/users", &[], b"").await.expect(200).json();
    assert_eq!(names.as_array().map(Vec::len), Some(2), "{names}");

    let user = |name: &str| Client::new(gateway.s3, "s3", name, "long enough");
    user("writer")
        .send("PUT", "/bucket/k", &[], b"mine")
        .await
        .expect(200);
    assert_eq!(
        user("reader")
            .send("GET", "/bucket/k", &[], b"")
            .await
            .expect(200)
            .body,
        b"mine"
    );
    user("reader")
        .send("GET", "/bucket?list-type=2", &[], b"")
        .await
        .expect(200);
    user("reader")
        .send("PUT", "/bucket/k", &[], b"no")
        .await
        .expect_error(403, "AccessDenied");
    user("reader")
        .send("DELETE", "/bucket/k", &[], b"")
        .await
        .expect_error(403, "AccessDenied");

    let of = |name: &str| Client::new(gateway.admin, "ullage", name, "long enough");
    let own = of("writer")
        .send("GET", "/v1/fat/user", &[], b"")
        .await
        .expect(200)
        .json();
    assert_eq!(own["objects"][0]["key"], "k");
    assert_eq!(own["objects"][0]["place"], "inline");
    assert_eq!(own["next"], Value::Null);
    assert_eq!(
        of("reader")
            .send("GET", "/v1/fat/user?user=writer", &[], b"")
            .await
            .status,
        403
    );
    assert_eq!(of("writer").send("GET", "/v1/status", &[], b"").await.status, 403);
    let all = admin
        .send("GET", "/v1/fat/user?user=writer", &[], b"")
        .await
        .expect(200)
        .json();
    assert_eq!(all["objects"], own["objects"]);

    admin
        .send("DELETE", "/v1/keys/writer", &[], b"")
        .await
        .expect(200);
    let gone = user("writer").send("GET", "/bucket/k", &[], b"").await;
    gone.expect_error(403, "InvalidAccessKeyId");
    assert_eq!(
        admin.send("DELETE", "/v1/keys/writer", &[], b"").await.status,
        404
    );
    let keys = admin.send("GET", "/v1/keys", &[], b"").await.expect(200).json();
    assert_eq!(keys[0]["access_key"], "reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_have_the_shapes_that_the_command_line_reads() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin_client();
    let status = admin.send("GET", "/v1/status", &[], b"").await.expect(200).json();
    for field in [
        "cluster",
        "epoch",
        "leases",
        "sessions",
        "erase_backlog",
        "release_queue",
        "cluster_time_ms",
    ] {
        assert!(!status[field].is_null(), "{field} in {status}");
    }
    assert!(
        status["room"]["free"].as_u64().is_some_and(|free| free > 1 << 30),
        "{status}"
    );
    let vendors = admin
        .send("GET", "/v1/vendors", &[], b"")
        .await
        .expect(200)
        .json();
    let vendor = &vendors[0];
    assert_eq!(
        (&vendor["state"], &vendor["zone"]),
        (&json!("alive"), &json!("zone-0")),
        "{vendor}"
    );
    assert_eq!(vendor["devices"][0]["state"], "ready");
    assert_eq!(vendor["devices"][0]["path"], "/nowhere/d0");
    assert_eq!(vendor["rooms"][0]["device_class"], "ssd");
    let rule = json!({"copies": 2, "zones": 2, "device_class": "ssd", "max_price": null, "pieces": 2, "chunk_bytes": 1 << 20});
    let set = admin
        .send("PUT", "/v1/classes/FAST", &[], rule.to_string().as_bytes())
        .await
        .expect(200)
        .json();
    assert_eq!((&set["name"], &set["copies"]), (&json!("FAST"), &json!(2)));
    let classes = admin
        .send("GET", "/v1/classes", &[], b"")
        .await
        .expect(200)
        .json();
    assert_eq!(classes.as_array().map(Vec::len), Some(4), "{classes}");
    let bad = json!({"copies": 0, "zones": 0, "device_class": null, "max_price": null, "pieces": 1, "chunk_bytes": 5});
    assert_eq!(
        admin
            .send("PUT", "/v1/classes/BAD", &[], bad.to_string().as_bytes())
            .await
            .status,
        400
    );
    assert_eq!(
        admin
            .send("PUT", "/v1/classes/BAD", &[], b"{\"copies\": 1, \"odd\": 2}")
            .await
            .status,
        400
    );

    let s3 = gateway.client();
    s3.send("PUT", "/bucket", &[], b"").await.expect(200);
    s3.send("PUT", "/bucket/k", &[], b"bytes").await.expect(200);
    let fat = admin
        .send("GET", "/v1/fat/object?bucket=bucket&key=k", &[], b"")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&fat["length"], &fat["inline"], &fat["chunks"]),
        (&json!(5), &json!(true), &json!([]))
    );
    assert_eq!(
        admin
            .send("GET", "/v1/fat/object?bucket=bucket&key=x", &[], b"")
            .await
            .status,
        404
    );
    s3.send("PUT", "/bucket/chunks", &[], &vec![1; 3 << 20])
        .await
        .expect(200);
    let fat = admin
        .send("GET", "/v1/fat/object?bucket=bucket&key=chunks", &[], b"")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&fat["inline"], fat["chunks"].as_array().map(Vec::len)),
        (&json!(false), Some(3)),
        "{fat}"
    );
    assert_eq!(
        (&fat["chunks"][1]["offset"], &fat["chunks"][1]["length"]),
        (&json!(1 << 20), &json!(1 << 20))
    );
    let copy = &fat["chunks"][0]["copies"][0];
    assert_eq!(
        (&copy["state"], &copy["pieces"]),
        (&json!("good"), &json!(2)),
        "{fat}"
    );
    let leases = admin.send("GET", "/v1/leases", &[], b"").await.expect(200).json();
    assert_eq!(leases[0]["state"], "open", "{leases}");
    assert!(
        leases[0]["rows"][0]["locked"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0),
        "{leases}"
    );
    let paths = admin.send("GET", "/v1/paths", &[], b"").await.expect(200).json();
    assert!(paths[0]["score"].is_number(), "{paths}");

    // Every vendor's own table agrees with the FAT.
    for vendor in vendors.as_array().expect("vendors") {
        let number = &vendor["vendor"];
        let of = |list: Value| {
            let copies = list["copies"].as_array().cloned().expect("copies");
            copies
                .into_iter()
                .map(|copy| (copy["chunk"].clone(), copy["lease"].clone()))
                .collect::<Vec<_>>()
        };
        let table = admin
            .send("GET", &format!("/v1/fat/vendor/{number}"), &[], b"")
            .await
            .expect(200)
            .json();
        let own = admin
            .send("GET", &format!("/v1/vendors/{number}/copies"), &[], b"")
            .await
            .expect(200)
            .json();
        assert_eq!(of(table), of(own));
    }
    assert_eq!(
        admin.send("GET", "/v1/vendors/999/copies", &[], b"").await.status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_invitations_and_revocations_are_for_the_root_keys() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin_client();
    let members = admin.send("GET", "/v1/metad", &[], b"").await.expect(200).json();
    assert_eq!(
        (&members["members"][0]["node"], &members["members"][0]["leads"]),
        (&json!("0000000000000001"), &json!(true)),
        "{members}"
    );
    let post = async |target: &str, document: Value| {
        let document = document.to_string();
        admin.send("POST", target, &[], document.as_bytes()).await
    };
    post("/v1/metad", json!({"address": "b:9310", "replaces": null}))
        .await
        .expect(200);
    for bad in [
        json!({"address": "nowhere"}),
        json!({"address": "b:99999"}),
        json!({"address": "b:1", "replaces": "x"}),
        json!({}),
    ] {
        assert_eq!(post("/v1/metad", bad.clone()).await.status, 400, "{bad}");
    }
    post("/v1/metad/transfer", json!({"to": "1"})).await.expect(200);
    let refused = admin.send("DELETE", "/v1/metad/1", &[], b"").await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (400, &json!("Refused"))
    );

    let invited = post("/v1/invitations", json!({"life_ms": 60_000})).await;
    let token = invited.expect(200).json()["token"].as_str().map(str::to_owned);
    assert!(token.is_some_and(|token| token.starts_with("ullage-join-")));
    for life in [0, u64::MAX] {
        let answer = post("/v1/invitations", json!({"life_ms": life})).await;
        assert_eq!(answer.status, 400, "{life}");
    }
    post("/v1/vendors/4/revoke", json!({})).await.expect(200);
    let vendors = admin
        .send("GET", "/v1/vendors", &[], b"")
        .await
        .expect(200)
        .json();
    assert_eq!(vendors[3]["state"], "revoked", "{vendors}");
    assert_eq!(post("/v1/vendors/99/revoke", json!({})).await.status, 404);
    let paths = admin.send("GET", "/v1/paths", &[], b"").await.expect(200).json();
    assert!(
        paths[3]["discarded"]
            .as_str()
            .is_some_and(|why| why.starts_with("revoked")),
        "{paths}"
    );

    let new = json!({"name": "ann", "access_key": "ann", "secret_key": "long enough", "policy": "readwrite"});
    post("/v1/users", new).await.expect(200);
    let user = Client::new(gateway.admin, "ullage", "ann", "long enough");
    for (method, target) in [
        ("GET", "/v1/metad"),
        ("POST", "/v1/metad"),
        ("POST", "/v1/invitations"),
        ("POST", "/v1/vendors/1/revoke"),
    ] {
        assert_eq!(
            user.send(method, target, &[], b"{}").await.status,
            403,
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_request_is_one_500() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin_client();
    let mut connection = admin.connect().await;
    connection
        .send(admin.head("GET", "/v1/vendors/666/copies", &[], 0).as_bytes())
        .await;
    let answer = connection.answer(false).await.expect("an answer");
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (500, &json!("InternalError"))
    );
    connection
        .send(admin.head("GET", "/v1/status", &[], 0).as_bytes())
        .await;
    assert_eq!(connection.answer(false).await.expect("an answer").status, 200);
}
