"""Versioning as boto3 sees it, against the endpoint in AWS_ENDPOINT_URL. Prints `all well` at the end."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(retries={"max_attempts": 1}))
BUCKET, KEY = "boto3-versions", "key"


def set_versioning(status):
    """Switches versioning and reads it back."""
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": status})
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == status


def put(body, key=KEY):
    """Stores a version and answers its id."""
    return s3.put_object(Bucket=BUCKET, Key=key, Body=body).get("VersionId")


def body_of(**version):
    """What a version consists of."""
    return s3.get_object(Bucket=BUCKET, Key=KEY, **version)["Body"].read()


def error_of(call, **arguments):
    """(status, code, is a delete marker) of the error a call ends with."""
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        marker = answer["HTTPHeaders"].get("x-amz-delete-marker") == "true"
        return answer["HTTPStatusCode"], error.response["Error"]["Code"], marker
    raise AssertionError(f"{call.__name__} {arguments} should have failed")


def all_versions(**arguments):
    """(version, is latest, is a delete marker) of all keys, page by page, two at a time."""
    found = []
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=BUCKET, PaginationConfig={"PageSize": 2}, **arguments
    )
    for page in pages:
        rows = [(row, False) for row in page.get("Versions", [])]
        rows += [(row, True) for row in page.get("DeleteMarkers", [])]
        found += [(row["VersionId"], row["IsLatest"], marker) for row, marker in rows]
    return found


s3.create_bucket(Bucket=BUCKET)
assert "Status" not in s3.get_bucket_versioning(Bucket=BUCKET)
assert put(b"zero") is None
set_versioning("Enabled")
one, two, three = (put(body) for body in (b"one", b"two", b"three"))
assert body_of() == b"three"
for version, body in ((one, b"one"), (two, b"two"), ("null", b"zero")):
    assert body_of(VersionId=version) == body

deleted = s3.delete_object(Bucket=BUCKET, Key=KEY)
marker = deleted["VersionId"]
assert deleted["DeleteMarker"]
assert error_of(s3.get_object, Key=KEY) == (404, "NoSuchKey", True)
assert error_of(s3.get_object, Key=KEY, VersionId=marker) == (405, "MethodNotAllowed", True)
assert error_of(s3.get_object, Key=KEY, VersionId="0" * 32) == (404, "NoSuchVersion", False)
assert error_of(s3.get_object, Key=KEY, VersionId="x") == (400, "InvalidArgument", False)
assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
assert sorted(all_versions()) == sorted(
    [(marker, True, True), (three, False, False), (two, False, False), (one, False, False), ("null", False, False)]
)
s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=marker)
assert body_of() == b"three"
s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=three)
assert body_of() == b"two"

source = {"Bucket": BUCKET, "Key": KEY, "VersionId": one}
copied = s3.copy_object(Bucket=BUCKET, Key=KEY, CopySource=source)
assert copied["CopySourceVersionId"] == one and copied["VersionId"] not in (one, two)
assert body_of() == b"one"

set_versioning("Suspended")
assert put(b"null one") == "null"
assert put(b"null two") == "null"
assert body_of(VersionId="null") == b"null two"
assert len(all_versions()) == 4
assert s3.delete_object(Bucket=BUCKET, Key=KEY)["VersionId"] == "null"
assert error_of(s3.head_object, Key=KEY)[0] == 404
s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId="null")
assert body_of() == b"one"

set_versioning("Enabled")
upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
part = s3.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
done = s3.complete_multipart_upload(
    Bucket=BUCKET,
    Key="parts",
    UploadId=upload,
    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
)
assert s3.head_object(Bucket=BUCKET, Key="parts")["VersionId"] == done["VersionId"]
put(b"1", "dir/a")
put(b"1", "dir/b")
folded = s3.list_object_versions(Bucket=BUCKET, Delimiter="/")
assert [prefix["Prefix"] for prefix in folded["CommonPrefixes"]] == ["dir/"]

deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "dir/a"}, {"Key": KEY, "VersionId": two}]})
assert [row.get("DeleteMarker", False) for row in deleted["Deleted"]] == [True, False]
assert error_of(s3.delete_bucket) == (409, "BucketNotEmpty", False)
boto3.resource("s3").Bucket(BUCKET).object_versions.delete()
assert all_versions() == []
s3.delete_bucket(Bucket=BUCKET)
print("all well")
