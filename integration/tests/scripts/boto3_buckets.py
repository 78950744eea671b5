"""What boto3 does with a bucket's settings and with forms, against the endpoint in AWS_ENDPOINT_URL: tags, CORS rules,
presigned POSTs. Prints `all well` at the end."""

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(retries={"max_attempts": 1}, signature_version="s3v4"))
http = urllib3.PoolManager(retries=False)
BUCKET = "boto3-buckets"
OTHER = "boto3-others"


def code_of(call, **arguments):
    """The S3 error code that a call ends with."""
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} {arguments} should have failed")


for bucket in [BUCKET, OTHER]:
    s3.create_bucket(Bucket=bucket)

# Tags.
assert code_of(s3.get_bucket_tagging) == "NoSuchTagSet"
tags = [{"Key": f"key {number}", "Value": "värde"} for number in range(50)]
s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})
assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == tags
too_many = tags + [{"Key": "one more", "Value": ""}]
assert code_of(s3.put_bucket_tagging, Tagging={"TagSet": too_many}) == "BadRequest"
s3.delete_bucket_tagging(Bucket=BUCKET)
assert code_of(s3.get_bucket_tagging) == "NoSuchTagSet"

# Cross-origin requests.
assert code_of(s3.get_bucket_cors) == "NoSuchCORSConfiguration"
rules = [
    {
        "ID": "pages",
        "AllowedHeaders": ["Content-*", "x-amz-META-cask"],
        "AllowedMethods": ["GET", "POST"],
        "AllowedOrigins": ["https://*.test"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 60,
    }
]
s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": rules})
assert s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"] == rules
two_wildcards = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*.*"]}]
assert code_of(s3.put_bucket_cors, CORSConfiguration={"CORSRules": two_wildcards}) == "InvalidRequest"

# What there is none of here, as tools ask of every bucket.
s3.put_object(Bucket=BUCKET, Key="plain", Body=b"")
assert s3.get_bucket_request_payment(Bucket=BUCKET)["Payer"] == "BucketOwner"
assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=BUCKET)
assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=BUCKET)
assert set(s3.get_bucket_notification_configuration(Bucket=BUCKET)) == {"ResponseMetadata"}
(rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}, rule
s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
assert s3.list_bucket_inventory_configurations(Bucket=BUCKET)["IsTruncated"] is False
assert code_of(s3.get_bucket_replication) == "ReplicationConfigurationNotFoundError"
assert code_of(s3.get_bucket_website) == "NoSuchWebsiteConfiguration"
assert code_of(s3.get_bucket_lifecycle_configuration) == "NoSuchLifecycleConfiguration"
assert code_of(s3.get_object_lock_configuration) == "ObjectLockConfigurationNotFoundError"
assert code_of(s3.get_object_retention, Key="plain") == "InvalidRequest"
s3.delete_bucket_website(Bucket=BUCKET)
payer = {"Payer": "Requester"}
assert code_of(s3.put_bucket_request_payment, RequestPaymentConfiguration=payer) == "NotImplemented"
s3.delete_object(Bucket=BUCKET, Key="plain")

# Forms.
conditions = [
    ["content-length-range", 1, 10_000_000],
    ["starts-with", "$Content-Type", "image/"],
    {"success_action_status": "201"},
    {"x-amz-meta-cask": "12"},
]
form = s3.generate_presigned_post(BUCKET, "user/${filename}", Conditions=conditions)
sent = form["fields"] | {"Content-Type": "image/odd", "success_action_status": "201", "x-amz-meta-cask": "12"}


def post(url, fields, body=b"picture"):
    """Sends a form as a browser does, from a page of another origin."""
    headers = {"Origin": "https://page.test"}
    return http.request("POST", url, fields=fields | {"file": ("a b.png", body, "image/png")}, headers=headers)


answer = post(form["url"], sent)
assert answer.status == 201, answer.data
assert b"<Key>user/a b.png</Key>" in answer.data, answer.data
assert answer.headers["Access-Control-Allow-Origin"] == "https://page.test"
stored = s3.get_object(Bucket=BUCKET, Key="user/a b.png")
assert stored["Body"].read() == b"picture"
assert (stored["ContentType"], stored["Metadata"]) == ("image/odd", {"cask": "12"})
large = bytes(range(256)) * 20_000
assert post(form["url"], sent, large).status == 201
assert s3.get_object(Bucket=BUCKET, Key="user/a b.png")["Body"].read() == large

for changed, status, code in [
    ({"Content-Type": "text/html"}, 403, b"AccessDenied"),
    ({"x-amz-meta-other": "1"}, 403, b"AccessDenied"),
    ({"key": "other"}, 403, b"AccessDenied"),
    ({"x-amz-signature": "0" * 64}, 403, b"SignatureDoesNotMatch"),
]:
    refused = post(form["url"], sent | changed)
    assert refused.status == status and code in refused.data, (changed, refused.data)
refused = post(form["url"], sent, b"")
assert refused.status == 400 and b"EntityTooSmall" in refused.data, refused.data
# A form for one bucket is none for another.
refused = post(form["url"].replace(BUCKET, OTHER), sent)
assert refused.status == 403 and b"AccessDenied" in refused.data, refused.data
assert "Contents" not in s3.list_objects_v2(Bucket=OTHER)

s3.delete_object(Bucket=BUCKET, Key="user/a b.png")
for bucket in [BUCKET, OTHER]:
    s3.delete_bucket(Bucket=bucket)
print("all well")
