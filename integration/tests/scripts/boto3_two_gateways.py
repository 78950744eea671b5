"""Two gateways of one cluster, by boto3: what one has answered, the other shows at once. The endpoints are the
arguments, the number of keys of the listing is the last one. Prints `all well` at the end."""

import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

*endpoints, keys = sys.argv[1:]
KEYS = int(keys)
config = Config(retries={"max_attempts": 1}, max_pool_connections=32)
one, other = (boto3.client("s3", endpoint_url=endpoint, config=config) for endpoint in endpoints)
BUCKET = "two-gateways"


def code_of(call, **arguments):
    """The S3 error code that a call ends with."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} {arguments} should have failed")


def body_of(client, key):
    return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


one.create_bucket(Bucket=BUCKET)
other.head_bucket(Bucket=BUCKET)

# Written by one, read by the other, in turns; small, of one chunk, of several.
for length in (0, 100, 5_000, 300_000, 9_000_000):
    writer, reader = one, other
    for round in range(6):
        body = os.urandom(length)
        writer.put_object(Bucket=BUCKET, Key="turns", Body=body)
        assert body_of(reader, "turns") == body, (length, round)
        assert body_of(writer, "turns") == body, (length, round)
        head = reader.head_object(Bucket=BUCKET, Key="turns")
        assert head["ContentLength"] == length
        writer, reader = reader, writer
one.delete_object(Bucket=BUCKET, Key="turns")
assert code_of(other.get_object, Bucket=BUCKET, Key="turns") == "NoSuchKey"
assert other.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0

# A condition holds whoever wrote.
one.put_object(Bucket=BUCKET, Key="once", Body=b"1", IfNoneMatch="*")
assert code_of(other.put_object, Bucket=BUCKET, Key="once", Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
assert body_of(other, "once") == b"1"

# A multipart upload that both take part in.
parts = [os.urandom(6 << 20), os.urandom(5 << 20), os.urandom(1)]
upload = one.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
done = []
for number, body in enumerate(parts, start=1):
    client = (one, other)[number % 2]
    answer = client.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=body)
    done.append({"PartNumber": number, "ETag": answer["ETag"]})
listed = one.list_parts(Bucket=BUCKET, Key="parts", UploadId=upload)["Parts"]
assert [part["Size"] for part in listed] == [len(body) for body in parts]
other.complete_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload={"Parts": done})
assert body_of(one, "parts") == b"".join(parts)

# One that is given up leaves nothing.
upload = other.create_multipart_upload(Bucket=BUCKET, Key="given up")["UploadId"]
one.upload_part(Bucket=BUCKET, Key="given up", UploadId=upload, PartNumber=1, Body=parts[0])
one.abort_multipart_upload(Bucket=BUCKET, Key="given up", UploadId=upload)
assert code_of(other.upload_part, Bucket=BUCKET, Key="given up", UploadId=upload, PartNumber=1, Body=b"1") == "NoSuchUpload"
assert code_of(other.get_object, Bucket=BUCKET, Key="given up") == "NoSuchKey"

# The transfer manager, parts side by side.
large = os.urandom(40 * 1024 * 1024 + 7)
transfer = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)
one.upload_fileobj(io.BytesIO(large), BUCKET, "large", Config=transfer)
back = io.BytesIO()
other.download_fileobj(BUCKET, "large", back, Config=transfer)
assert back.getvalue() == large

# Many keys, half of them by each; the listing of both is whole and in order.
names = [f"many/{number:05}" for number in range(KEYS)]
with ThreadPoolExecutor(16) as pool:
    put = lambda number: (one, other)[number % 2].put_object(
        Bucket=BUCKET, Key=names[number], Body=str(number).encode()
    )
    list(pool.map(put, range(KEYS)))
for client in (one, other):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="many/")
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == names
    folders = client.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    assert [entry["Prefix"] for entry in folders["CommonPrefixes"]] == ["many/"], folders
for number in range(0, KEYS, 997):
    assert body_of(one, names[number]) == str(number).encode()

# Deleted by one, gone at the other.
for start in range(0, KEYS, 1000):
    batch = [{"Key": key} for key in names[start : start + 1000]]
    deleted = other.delete_objects(Bucket=BUCKET, Delete={"Objects": batch})
    assert "Errors" not in deleted, deleted["Errors"][:3]
assert "Contents" not in one.list_objects_v2(Bucket=BUCKET, Prefix="many/")
for key in ("once", "parts", "large"):
    one.delete_object(Bucket=BUCKET, Key=key)
other.delete_bucket(Bucket=BUCKET)
assert code_of(one.list_objects_v2, Bucket=BUCKET) == "NoSuchBucket"
print("all well")
