"""boto3's basics against the endpoint in AWS_ENDPOINT_URL, with the defaults of today's SDK: checksums
on every upload, checked on every download. Prints `all well` at the end."""

import hashlib
import io
import os

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(retries={"max_attempts": 1}))
BUCKET = "boto3-basics"


def code_of(call, **arguments):
    """The S3 error code that a call ends with."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} {arguments} should have failed")


s3.create_bucket(Bucket=BUCKET)
assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
s3.head_bucket(Bucket=BUCKET)
assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None

# Small, inline and chunked; checksums are the SDK's default.
for length in (0, 10, 4096, 100_000, 9_000_000):
    body = os.urandom(length)
    put = s3.put_object(Bucket=BUCKET, Key=f"object-{length}", Body=body, Metadata={"length": str(length)})
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', put
    got = s3.get_object(Bucket=BUCKET, Key=f"object-{length}", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got["Metadata"] == {"length": str(length)}
    if length > 20:
        part = s3.get_object(Bucket=BUCKET, Key=f"object-{length}", Range="bytes=5-14")
        assert part["Body"].read() == body[5:15] and part["ResponseMetadata"]["HTTPStatusCode"] == 206

for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
    if algorithm in ("CRC32C", "CRC64NVME"):
        try:
            import awscrt  # noqa: F401  boto3 computes these two only with it
        except ImportError:
            continue
    name = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=BUCKET, Key=algorithm, Body=b"x" * 70_000, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=BUCKET, Key=algorithm, ChecksumMode="ENABLED")
    assert put[name] == head[name], (put, head)

wrong = dict(Bucket=BUCKET, Key="wrong", Body=b"abc")
assert code_of(s3.put_object, **wrong, ChecksumCRC32="AAAAAA==") in ("BadDigest", "InvalidRequest", "XAmzContentChecksumMismatch")
assert code_of(s3.put_object, **wrong, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==") == "BadDigest"
assert code_of(s3.head_object, Bucket=BUCKET, Key="wrong") == "404"

# The transfer manager: parts side by side.
large = os.urandom(24 * 1024 * 1024 + 5)
config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)
s3.upload_fileobj(io.BytesIO(large), BUCKET, "large", Config=config)
back = io.BytesIO()
s3.download_fileobj(BUCKET, "large", back, Config=config)
assert back.getvalue() == large

# Conditions.
s3.put_object(Bucket=BUCKET, Key="once", Body=b"1", IfNoneMatch="*")
assert code_of(s3.put_object, Bucket=BUCKET, Key="once", Body=b"2", IfNoneMatch="*") == "PreconditionFailed"

# Listing with the paginators of both versions.
for number in range(25):
    s3.put_object(Bucket=BUCKET, Key=f"many/{number:03}", Body=b"m")
for operation in ("list_objects_v2", "list_objects"):
    pages = s3.get_paginator(operation).paginate(Bucket=BUCKET, Prefix="many/", PaginationConfig={"PageSize": 7})
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert keys == [f"many/{number:03}" for number in range(25)], (operation, keys)
folders = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
assert [entry["Prefix"] for entry in folders["CommonPrefixes"]] == ["many/"]

# A presigned address works without credentials, and only for what it was made for.
import urllib.error
import urllib.request

# boto3 presigns with version 2 of the signature unless told otherwise, which is refused, as in new regions of AWS.
wanted = {"Bucket": BUCKET, "Key": "once"}
try:
    urllib.request.urlopen(s3.generate_presigned_url("get_object", Params=wanted, ExpiresIn=60))
    raise AssertionError("version 2 of the signature was taken")
except urllib.error.HTTPError as error:
    assert error.code == 400 and b"AWS4-HMAC-SHA256" in error.read()
presigner = boto3.client("s3", config=Config(signature_version="s3v4"))
url = presigner.generate_presigned_url("get_object", Params=wanted, ExpiresIn=60)
assert urllib.request.urlopen(url).read() == b"1"
try:
    urllib.request.urlopen(url.replace("/once", "/large"))
    raise AssertionError("a presigned address served another key")
except urllib.error.HTTPError as error:
    assert error.code == 403

# Deleting: one, many, everything.
assert code_of(s3.delete_bucket, Bucket=BUCKET) == "BucketNotEmpty"
keys = [entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET) for entry in page["Contents"]]
deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
assert sorted(entry["Key"] for entry in deleted["Deleted"]) == sorted(keys) and "Errors" not in deleted
assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
assert code_of(s3.get_object, Bucket=BUCKET, Key="once") == "NoSuchKey"
s3.delete_bucket(Bucket=BUCKET)
assert code_of(s3.list_objects_v2, Bucket=BUCKET) == "NoSuchBucket"
print("all well")
