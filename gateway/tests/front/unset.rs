//! Features that no bucket has here: what questions about them are answered, to whom, and that setting them is refused.

use super::Gateway;
use super::access::{root, send_as, user};
use serde_json::json;

const NAMESPACE: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

#[rustfmt::skip]
/// Method, what is asked of the bucket `/plain`, the action that it is, status, and the error code or the document.
const TABLE: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", "?requestPayment", "GetBucketRequestPayment", 200, "<RequestPaymentConfiguration NS><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"),
    ("GET", "?accelerate", "GetAccelerateConfiguration", 200, "<AccelerateConfiguration NS></AccelerateConfiguration>"),
    ("GET", "?logging", "GetBucketLogging", 200, "<BucketLoggingStatus NS></BucketLoggingStatus>"),
    ("GET", "?notification", "GetBucketNotification", 200, "<NotificationConfiguration NS></NotificationConfiguration>"),
    ("GET", "?encryption", "GetEncryptionConfiguration", 200, "<ServerSideEncryptionConfiguration NS><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"),
    ("GET", "?replication", "GetReplicationConfiguration", 404, "ReplicationConfigurationNotFoundError"),
    ("GET", "?website", "GetBucketWebsite", 404, "NoSuchWebsiteConfiguration"),
    ("GET", "?lifecycle", "GetLifecycleConfiguration", 404, "NoSuchLifecycleConfiguration"),
    ("GET", "?object-lock", "GetBucketObjectLockConfiguration", 404, "ObjectLockConfigurationNotFoundError"),
    ("GET", "?analytics", "GetAnalyticsConfiguration", 200, "<ListBucketAnalyticsConfigurationResult NS><IsTruncated>false</IsTruncated></ListBucketAnalyticsConfigurationResult>"),
    ("GET", "?inventory", "GetInventoryConfiguration", 200, "<ListInventoryConfigurationsResult NS><IsTruncated>false</IsTruncated></ListInventoryConfigurationsResult>"),
    ("GET", "?metrics", "GetMetricsConfiguration", 200, "<ListMetricsConfigurationsResult NS><IsTruncated>false</IsTruncated></ListMetricsConfigurationsResult>"),
    ("GET", "?intelligent-tiering", "GetIntelligentTieringConfiguration", 200, "<ListBucketIntelligentTieringConfigurationsOutput NS><IsTruncated>false</IsTruncated></ListBucketIntelligentTieringConfigurationsOutput>"),
    ("GET", "?analytics&id=a", "GetAnalyticsConfiguration", 404, "NoSuchConfiguration"),
    ("GET", "?inventory&id=a", "GetInventoryConfiguration", 404, "NoSuchConfiguration"),
    ("GET", "?metrics&id=a", "GetMetricsConfiguration", 404, "NoSuchConfiguration"),
    ("GET", "?intelligent-tiering&id=a", "GetIntelligentTieringConfiguration", 404, "NoSuchConfiguration"),
    ("GET", "/kept?retention", "GetObjectRetention", 400, "InvalidRequest"),
    ("GET", "/kept?legal-hold&versionId=null", "GetObjectLegalHold", 400, "InvalidRequest"),
    ("DELETE", "?encryption", "PutEncryptionConfiguration", 204, ""),
    ("DELETE", "?lifecycle", "PutLifecycleConfiguration", 204, ""),
    ("DELETE", "?replication", "PutReplicationConfiguration", 204, ""),
    ("DELETE", "?website", "DeleteBucketWebsite", 204, ""),
];

/// Encryption with keys that there are none of; for the other features just some document.
const KMS: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
    <SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";

/// Lets a user do one action and no other, or every action but that.
async fn allow(gateway: &Gateway, name: &str, action: &str, only: bool) {
    let everywhere = json!(["arn:aws:s3:::plain", "arn:aws:s3:::plain/*"]);
    let one = json!({"Effect": if only { "Allow" } else { "Deny" }, "Action": format!("s3:{action}"), "Resource": everywhere});
    let all = json!({"Effect": "Allow", "Action": "s3:*", "Resource": everywhere});
    let statements = if only { json!([one]) } else { json!([one, all]) };
    let body =
        json!({"user": name, "policy": {"Version": "2012-10-17", "Statement": statements}}).to_string();
    let admin = gateway.admin_client();
    let set = admin.send("PUT", "/v1/users/policy", &[], body.as_bytes());
    set.await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_set_is_answered_as_s3_does_to_those_who_may_ask() {
    let gateway = Gateway::start().await;
    root(&gateway, "PUT", "/plain", &[], "").await.expect(200);
    root(&gateway, "PUT", "/plain/kept", &[], "x").await.expect(200);
    for name in ["only", "but"] {
        user(&gateway, name, json!("none")).await;
    }
    for (method, asked, action, status, content) in TABLE {
        let target = format!("/plain{asked}");
        allow(&gateway, "only", action, true).await;
        allow(&gateway, "but", action, false).await;
        let answer = send_as(&gateway, "only", method, &target, &[], "").await;
        if *status < 300 {
            let text = answer.expect(*status).text();
            assert!(
                text.ends_with(&content.replace("NS", NAMESPACE)),
                "{target}: {text}"
            );
        } else {
            answer.expect_error(*status, content);
        }
        for who in ["but", "anonymous"] {
            let refused = send_as(&gateway, who, method, &target, &[], "").await;
            refused.expect_error(403, "AccessDenied");
        }
        let nowhere = root(&gateway, method, &format!("/nowhere{asked}"), &[], "").await;
        nowhere.expect_error(404, "NoSuchBucket");
        let owner = [("x-amz-expected-bucket-owner", "somebody")];
        let others = root(&gateway, method, &target, &owner, "").await;
        others.expect_error(403, "AccessDenied");
        let set = root(&gateway, "PUT", &target, &[], KMS).await;
        set.expect_error(501, "NotImplemented");
    }
    let plain = KMS.replace("aws:kms", "AES256");
    allow(&gateway, "only", "PutEncryptionConfiguration", true).await;
    allow(&gateway, "but", "PutEncryptionConfiguration", false).await;
    for (who, target, expected) in [
        ("only", "/plain?encryption", 200),
        ("but", "/plain?encryption", 403),
        ("anonymous", "/plain?encryption", 403),
        ("root", "/nowhere?encryption", 404),
    ] {
        send_as(&gateway, who, "PUT", target, &[], &plain)
            .await
            .expect(expected);
    }
}
