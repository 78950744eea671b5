"""What boto3 does with an object beside its bytes, against the endpoint in AWS_ENDPOINT_URL: tags, parts, checksums,
copies, conditions. Prints `all well` at the end."""

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(retries={"max_attempts": 1}))
BUCKET = "boto3-objects"


def code_of(call, **arguments):
    """The S3 error code that a call ends with."""
    try:
        call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} {arguments} should have failed")


def tags_of(key):
    """The tags of an object as a dictionary."""
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]}
    assert s3.head_object(Bucket=BUCKET, Key=key).get("TagCount", 0) == len(tags)
    return tags


def tag_set(tags):
    """Tags as the API wants them."""
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


s3.create_bucket(Bucket=BUCKET)

# Tags.
s3.put_object(Bucket=BUCKET, Key="tagged", Body=b"1", Tagging="colour=dark%20red&empty=")
assert tags_of("tagged") == {"colour": "dark red", "empty": ""}
s3.put_object_tagging(Bucket=BUCKET, Key="tagged", Tagging=tag_set({"käse": "+-=._:/@"}))
assert tags_of("tagged") == {"käse": "+-=._:/@"}
source = {"Bucket": BUCKET, "Key": "tagged"}
s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
assert tags_of("copy") == {"käse": "+-=._:/@"}
s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, TaggingDirective="REPLACE", Tagging="a=b")
assert tags_of("copy") == {"a": "b"}
s3.delete_object_tagging(Bucket=BUCKET, Key="tagged")
assert tags_of("tagged") == {}
eleven = tag_set({f"k{number}": "v" for number in range(11)})
assert code_of(s3.put_object_tagging, Key="tagged", Tagging=eleven) == "BadRequest"
assert code_of(s3.put_object_tagging, Key="tagged", Tagging=tag_set({"k" * 129: ""})) == "InvalidTag"
assert code_of(s3.get_object_tagging, Key="none") == "NoSuchKey"

# Parts of an object, and its attributes.
import os

MIB = 1 << 20
body = os.urandom(17 * MIB + 3)
ends = [6 * MIB, 11 * MIB, len(body)]


def multipart(key, **arguments):
    """Stores `body` in three parts; answers what UploadPart answered."""
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, **arguments)["UploadId"]
    parts, start = [], 0
    for number, end in enumerate(ends, 1):
        part = s3.upload_part(
            Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body[start:end], **arguments
        )
        parts.append({name: value for name, value in part.items() if name == "ETag" or name.startswith("Checksum")})
        parts[-1].pop("ChecksumType", None)
        parts[-1]["PartNumber"] = number
        start = end
    s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    return parts


parts = multipart("parts", ChecksumAlgorithm="SHA256")
start = 0
for number, end in enumerate(ends, 1):
    # boto3 compares the part's checksum with its bytes.
    got = s3.get_object(Bucket=BUCKET, Key="parts", PartNumber=number, ChecksumMode="ENABLED")
    assert got["Body"].read() == body[start:end] and got["PartsCount"] == 3
    assert got["ChecksumSHA256"] == parts[number - 1]["ChecksumSHA256"]
    head = s3.head_object(Bucket=BUCKET, Key="parts", PartNumber=number)
    assert head["ContentLength"] == end - start and head["PartsCount"] == 3
    start = end
assert code_of(s3.get_object, Key="parts", PartNumber=4) == "InvalidPartNumber"
everything = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
attributes = s3.get_object_attributes(Bucket=BUCKET, Key="parts", ObjectAttributes=everything, MaxParts=2)
assert attributes["ObjectSize"] == len(body) and attributes["StorageClass"] == "STANDARD", attributes
assert attributes["Checksum"]["ChecksumType"] == "COMPOSITE", attributes
listed = attributes["ObjectParts"]
assert listed["TotalPartsCount"] == 3 and listed["IsTruncated"] and listed["NextPartNumberMarker"] == 2, listed
assert [part["ChecksumSHA256"] for part in listed["Parts"]] == [part["ChecksumSHA256"] for part in parts[:2]]
assert [part["Size"] for part in listed["Parts"]] == [6 * MIB, 5 * MIB]

# Copies by parts, as the transfer manager makes them; the source may go.
from boto3.s3.transfer import TransferConfig

config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
for arguments in ({}, {"ChecksumAlgorithm": "CRC32"}):
    multipart("source")
    source = {"Bucket": BUCKET, "Key": "source"}
    s3.copy(source, BUCKET, "by-parts", ExtraArgs=arguments, Config=config)
    s3.copy_object(Bucket=BUCKET, Key="whole", CopySource=source, **arguments)
    s3.delete_object(Bucket=BUCKET, Key="source")
    for key in ("by-parts", "whole"):
        got = s3.get_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        assert got["Body"].read() == body, key
        assert not arguments or "ChecksumCRC32" in got, got

for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
    for entry in page["Contents"]:
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
s3.delete_bucket(Bucket=BUCKET)
print("all well")
